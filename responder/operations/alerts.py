"""Takes one webhook body: everything in it is decided on and recorded before it is acknowledged."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

from responder.backends.alertmanager.alerts import AlertGroup, UndatedAlert
from responder.backends.alertmanager.matchers import all_match
from responder.backends.connections import Connections
from responder.config.permitted import Permitted
from responder.decisions.incidents import match_alerts, notify_only
from responder.decisions.journal_facts import WATCHDOG
from responder.decisions.limits import Watchdog
from responder.decisions.policy_set import PolicySet
from responder.journal import Transactions, alert_times, decisions
from responder.logging import say
from responder.operations.decided import Decided
from responder.operations.permitted import permits, split_by_permission
from responder.operations.respond import Begin, Claimer, respond
from responder.operations.undecided import (
    record_not_permitted,
    record_notification,
    record_unmatched,
    record_unreadable,
)

log = logging.getLogger("responder.decisions")


async def receive_alerts(
    group: AlertGroup,
    sender: str,
    permitted: Permitted,
    *,
    policy_set: PolicySet,
    journal: Transactions,
    connections: Connections,
    claimer: Claimer | None,
    begin: Begin,
) -> tuple[list[Decided], list[dict[str, Any]]]:
    """The decisions on incidents, and the answers for all alerts that lead to none. `begin`: see `respond`.

    Raises JournalUnavailable, and Conflict if another request changed the same rows at the same time.
    """
    now = journal.now()
    alerts = [alert for alert in group.alerts if not policy_set.is_watchdog(alert.labels)]
    if any(isinstance(alert, UndatedAlert) for alert in alerts):
        alerts = await journal.transaction(alert_times.remember, alerts, now)
    if any(alert.status == "firing" and policy_set.is_watchdog(alert.labels) for alert in group.alerts):
        await _receive_watchdog(journal, sender, permitted, now)
    incidents, unmatched = match_alerts(alerts, policy_set.index, now, sender=sender, truncated=group.truncated_alerts)
    incidents, foreign = split_by_permission(permitted, incidents, policy_set)
    # If no watchdog is configured, its alert is not an unmatched alert: it only proves that alerts arrive.
    unmatched = [alert for alert in unmatched if not all_match(Watchdog().match, alert.labels)]
    answers = await record_unreadable(journal, group.refused, now)
    answers += [await record_unmatched(journal, unmatched, now)] if unmatched else []
    answers += [await record_not_permitted(journal, incident, sender, now) for incident in foreign]
    visible = [alert for alert in alerts if permits(permitted, alert)]
    for policy, found in notify_only(visible, policy_set.index):
        answers.append(await record_notification(journal, policy, found, now))
    if not incidents:
        return [], answers
    decided = await respond(
        incidents, policy_set=policy_set, journal=journal, connections=connections, claimer=claimer, begin=begin
    )
    return decided, answers


async def _receive_watchdog(journal: Transactions, sender: str, permitted: Permitted, now: datetime) -> None:
    if permitted.limited:
        say(log, "watchdog ignored: the token is limited", level=logging.WARNING, token=sender)
    else:
        await journal.transaction(decisions.record_heartbeat, WATCHDOG, now)

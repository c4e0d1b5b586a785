"""Whether a policy keeps the logs of a service by itself.

Nothing is changed by it, so neither the mode nor the live state of the alert counts.
"""

from __future__ import annotations

from datetime import datetime

from responder.decisions.facts import Facts
from responder.decisions.guards.automation import kill_switch
from responder.decisions.guards.guard import Answer, Guard, guard
from responder.decisions.guards.service import NO_COOLDOWN, cooling_down, service_configured
from responder.decisions.incidents import Incident

_KEEP_EVIDENCE = ("accepted", "awaiting_approval", "running", "reverting")


@guard()
def duplicate_alert(incident: Incident, facts: Facts, now: datetime) -> Answer:
    """Were logs kept for this alert before?"""
    if facts.kept_for:
        return "deny", f"logs were already kept for this alert: {facts.kept_for}"
    return "allow", "no logs were kept for this alert before"


@guard()
def in_progress(incident: Incident, facts: Facts, now: datetime) -> Answer:
    """Is a rollback of the service in progress?

    A rollback keeps the evidence itself, before its first change.
    """
    latest = facts.latest
    if latest and latest.state in _KEEP_EVIDENCE:
        return "deny", f"rollback {latest.id} is in progress and keeps the logs itself"
    return "allow", "no rollback of the service is in progress"


@guard()
def cooldown(incident: Incident, facts: Facts, now: datetime) -> Answer:
    """Did the policy keep logs of the service long enough ago?"""
    last = facts.kept_last
    return cooling_down(last.id, last.requested_at, incident, now) if last else NO_COOLDOWN


LOG_GUARDS: tuple[Guard, ...] = (kill_switch, service_configured, duplicate_alert, in_progress, cooldown)
"""In the order in which they decide."""

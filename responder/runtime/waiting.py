"""Incidents that are judged again without a webhook, for Alertmanager repeats an alert only after minutes or hours."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from responder.backends.alertmanager.alerts import Alert
from responder.backends.connections import Connections
from responder.backends.prometheus.client import Prometheus
from responder.decisions.alert_state import ask_alerts
from responder.decisions.incidents import Incident, match_alerts
from responder.decisions.policy_set import PolicySet
from responder.decisions.trouble import Recordings, questions, visible
from responder.errors import StepFailed, Unavailable
from responder.journal import Database, Row, Transaction

_REMEMBERED = timedelta(hours=1)
"""How long an incident is looked after, since it was judged last."""

_AGAIN = 15.0
"""Seconds until an incident whose trouble stays visible is judged once more: a guard may have been lifted."""

_MOST = 200
"""Incidents looked after at once. In a larger storm the brake holds all of them anyway."""

_NOT_AGAIN = ("service_configured", "mode")
"""What these refuse only another configuration allows, and then Alertmanager's next repeat is soon enough."""


class Due(NamedTuple):
    """Incidents to be judged again now."""

    visible: tuple[Incident, ...] = ()  # they fire, and their trouble has become visible or has been for a while
    unresolved: tuple[Incident, ...] = ()  # they fire `resolved_within` after the rollback that they opened


class _Remembered(NamedTuple):
    incident: Incident
    late: bool  # it opened a rollback, and was not judged since it had to be resolved


class Waiting:
    """Reads from the journal what was refused or is over, so that it survives a restart and every replica knows it."""

    def __init__(
        self, journal: Database, policy_set: Callable[[], PolicySet], connections: Callable[[], Connections]
    ) -> None:
        self._journal, self._mandate, self._connections = journal, policy_set, connections
        self._judged: dict[str, float] = {}  # incidents whose trouble was visible at the last look, and when judged
        self._resolved: set[str] = set()  # incidents of which Alertmanager said so when they had to be

    async def due(self) -> Due:
        """Those to be judged again now. None while Prometheus does not answer: what nobody can tell is no trouble."""
        policy_set = self._mandate()
        remembered = await self._journal.read(_remembered, policy_set, self._journal.now())
        if not remembered:
            self._judged.clear()
            return Due()
        try:
            prometheus = await self._connections().to(Prometheus)
            recordings = Recordings(await prometheus.query(" or ".join(questions({}))))
        except (Unavailable, StepFailed):
            return Due()
        visible = await self._visible([entry.incident for entry in remembered], recordings, policy_set)
        late = [entry.incident for entry in remembered if entry.late and _only_rings(entry.incident, recordings)]
        self._resolved &= {incident.id for incident in late}
        pending = [incident for incident in late if incident.id not in self._resolved and incident not in visible]
        states = await self._states(pending, policy_set)
        self._resolved |= {incident.id for incident, state in zip(pending, states, strict=True) if state == "gone"}
        firing = (incident for incident, state in zip(pending, states, strict=True) if state == "firing")
        return Due(tuple(visible), tuple(firing))

    async def _visible(
        self, incidents: Sequence[Incident], recordings: Recordings, policy_set: PolicySet
    ) -> list[Incident]:
        results = await asyncio.gather(
            *(visible(incident, recordings, policy_set, self._connections()) for incident in incidents)
        )
        in_trouble = [
            incident for incident, result in zip(incidents, results, strict=True) if result.state == "visible"
        ]
        now, ids = asyncio.get_running_loop().time(), {incident.id for incident in in_trouble}
        self._judged = {name: at for name, at in self._judged.items() if name in ids}
        due = [incident for incident in in_trouble if now - self._judged.get(incident.id, float("-inf")) >= _AGAIN]
        self._judged |= {incident.id: now for incident in due}
        states = await self._states(due, policy_set)
        return [incident for incident, state in zip(due, states, strict=True) if state == "firing"]

    async def _states(self, incidents: Sequence[Incident], policy_set: PolicySet) -> list[str]:
        lives = await asyncio.gather(*(ask_alerts(incident, policy_set, self._connections()) for incident in incidents))
        return [live.state for live in lives]


async def _remembered(tx: Transaction, policy_set: PolicySet, now: datetime) -> list[_Remembered]:
    rows = await tx.all("decisions_to_revisit", since=now - _REMEMBERED, most=_MOST * 4)
    newest: dict[str, Row] = {}
    opened: dict[str, Row] = {}
    for row in rows:
        newest.setdefault(row["incident"], row)
        if row["outcome"] == "succeeded":
            opened.setdefault(row["incident"], row)
    found: list[_Remembered] = []
    for name, row in newest.items():
        if row["outcome"] is None and (row["result"] != "deny" or row["guard"] in _NOT_AGAIN):
            continue
        if len(found) >= _MOST:
            break
        for incident in _incidents(row, policy_set, now):
            late = name in opened and _is_late(incident, opened[name]["ended_at"], row["last_at"], now)
            found.append(_Remembered(incident, late))
    return found


def _only_rings(incident: Incident, recordings: Recordings) -> bool:
    """Whether nothing but its alert tells how it is; a window may be longer than `resolved_within`."""
    return not incident.policy.expression and recordings.of(incident.alerts, incident.service) is None


def _is_late(incident: Incident, ended_at: datetime, judged_at: datetime, now: datetime) -> bool:
    resolved_by = ended_at + timedelta(seconds=incident.policy.verify.resolved_within)
    return judged_at <= resolved_by < now


def _incidents(row: Row, policy_set: PolicySet, now: datetime) -> Iterable[Incident]:
    """The incident that a decision was about, as the configuration of today sees its alerts."""
    alerts = [Alert(status="firing", **fields) for fields in json.loads(row["body"]).get("alerts", ())]
    found, _ = match_alerts(alerts, policy_set.policies, now, sender="alertmanager")
    return [incident for incident in found if incident.id == row["incident"] and not incident.forced]

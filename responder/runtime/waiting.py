"""Incidents to decide again without a webhook: Alertmanager repeats an alert only after minutes or hours."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from responder.backends.alertmanager.alerts import Alert
from responder.backends.connections import Connections
from responder.backends.prometheus.client import Prometheus
from responder.decisions.alert_state import query_alerts
from responder.decisions.incidents import Incident, match_alerts
from responder.decisions.policy_set import PolicySet
from responder.decisions.trouble import Recordings, questions, visible
from responder.errors import StepFailed, Unavailable
from responder.journal import Database, Row, Transaction

_DROPPED_AFTER = timedelta(hours=1)
"""An incident is dropped this long after its last decision."""

_REVISIT_EVERY = 15.0
"""Seconds between two decisions on an incident whose trouble stays visible: a guard may allow it meanwhile."""

_MAX_INCIDENTS = 200
"""Maximum number of waiting incidents. In a larger alert storm, the circuit breaker denies all of them."""

_NOT_REVISITED = ("service_configured", "mode")
"""Guards whose denial only a new configuration lifts. The next repeat of the alert is soon enough for them."""


class Due(NamedTuple):
    """Incidents to decide again now."""

    visible: tuple[Incident, ...] = ()  # firing, and their trouble became visible or stays visible
    unresolved: tuple[Incident, ...] = ()  # still firing `resolved_within` after their rollback


class _Waiting(NamedTuple):
    incident: Incident
    late: bool  # opened a rollback, and not decided since it had to be resolved
    over: bool  # its rollback has ended, and nothing was deployed since


class WaitingIncidents:
    """Finds them in the journal, so that they survive a restart and are known to every replica."""

    def __init__(
        self, journal: Database, policy_set: Callable[[], PolicySet], connections: Callable[[], Connections]
    ) -> None:
        self._journal, self._policy_set, self._connections = journal, policy_set, connections
        self._decided: dict[str, float] = {}  # when each incident whose trouble is visible was decided last
        self._rested: dict[str, float] = {}  # when each incident that is over was checked last
        self._resolved: set[str] = set()  # incidents that Alertmanager reported as resolved in time; also rested ones

    async def due(self) -> Due:
        """The incidents to decide again now. None if Prometheus does not answer: missing data is not trouble."""
        policy_set = self._policy_set()
        time = asyncio.get_running_loop().time()
        self._rested = {name: at for name, at in self._rested.items() if time - at < _REVISIT_EVERY}
        waiting = await self._journal.read(_waiting, policy_set, self._journal.now(), self._rested.keys())
        if not waiting:
            self._decided.clear()
            return Due()
        try:
            prometheus = await self._connections().to(Prometheus)
            recordings = Recordings(await prometheus.query(" or ".join(questions({}))))
        except (Unavailable, StepFailed):
            return Due()
        self._rested |= {entry.incident.id: time for entry in waiting if entry.over}
        visible = await self._visible([entry.incident for entry in waiting], recordings, policy_set)
        late = [entry.incident for entry in waiting if entry.late and _only_alert_shows_it(entry.incident, recordings)]
        self._resolved &= {incident.id for incident in late} | self._rested.keys()
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
        self._decided = {name: at for name, at in self._decided.items() if name in ids}
        due = [
            incident for incident in in_trouble if now - self._decided.get(incident.id, float("-inf")) >= _REVISIT_EVERY
        ]
        self._decided |= {incident.id: now for incident in due}
        states = await self._states(due, policy_set)
        return [incident for incident, state in zip(due, states, strict=True) if state == "firing"]

    async def _states(self, incidents: Sequence[Incident], policy_set: PolicySet) -> list[str]:
        lives = await asyncio.gather(
            *(query_alerts(incident, policy_set, self._connections()) for incident in incidents)
        )
        return [live.state for live in lives]


async def _waiting(
    tx: Transaction, policy_set: PolicySet, now: datetime, rested: Collection[str] = ()
) -> list[_Waiting]:
    """The incidents to check, without the `rested` ones: most troubles end with their rollback."""
    rows = await tx.all("decisions_to_revisit", since=now - _DROPPED_AFTER, most=_MAX_INCIDENTS * 4)
    newest: dict[str, Row] = {}
    opened: dict[str, Row] = {}
    for row in rows:
        newest.setdefault(row["incident"], row)
        if row["outcome"] == "succeeded":
            opened.setdefault(row["incident"], row)
    found: list[_Waiting] = []
    for name, row in newest.items():
        if row["outcome"] is None and (row["result"] != "deny" or row["guard"] in _NOT_REVISITED):
            continue
        over = row["ended_at"] is not None and row["ended_at"] >= (row["deployed_at"] or row["ended_at"])
        if over and name in rested:
            continue
        if len(found) >= _MAX_INCIDENTS:
            break
        for incident in _incidents(row, policy_set, now):
            late = name in opened and _is_late(incident, opened[name]["ended_at"], row["last_at"], now)
            found.append(_Waiting(incident, late, over))
    return found


def _only_alert_shows_it(incident: Incident, recordings: Recordings) -> bool:
    """Whether only the alert shows the trouble. Its window may be longer than `resolved_within`."""
    return not incident.policy.expression and recordings.of(incident.alerts, incident.service) is None


def _is_late(incident: Incident, ended_at: datetime, decided_at: datetime, now: datetime) -> bool:
    resolved_by = ended_at + timedelta(seconds=incident.policy.verify.resolved_within)
    return decided_at <= resolved_by < now


def _incidents(row: Row, policy_set: PolicySet, now: datetime) -> Iterable[Incident]:
    """The incident of a decision, matched by the current configuration."""
    alerts = [Alert(status="firing", **fields) for fields in json.loads(row["body"]).get("alerts", ())]
    found, _ = match_alerts(alerts, policy_set.index, now, sender="alertmanager")
    return [incident for incident in found if incident.id == row["incident"] and not incident.forced]

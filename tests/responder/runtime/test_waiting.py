"""Replicas that see the same trouble at the same moment open one rollback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from responder.backends.alertmanager.alerts import fingerprint
from responder.backends.connections import Connections
from responder.decisions.facts import TroubleNow
from responder.decisions.incidents import Incident
from responder.journal import Database, decisions, executions, open_journal
from responder.operations.decided import Decided
from responder.operations.respond import respond
from responder.rollback.events import Closed
from responder.runtime.waiting import Due, WaitingIncidents
from responder.services import registry, rollbacks
from tests.responder.examples import LABELS, ago, alert, deployment, incident, policy_set
from tests.responder.outside import FakeAlertmanager, FakePrometheus

Replicas = list[Database]


@pytest.fixture
async def replicas(postgres_server: Any) -> AsyncIterator[Replicas]:
    """Three journals on one PostgreSQL, in which 2.1 was deployed ten minutes ago."""
    state = str(await postgres_server.database(f"waiting_{datetime.now(UTC):%H%M%S%f}"))
    opened = [await open_journal(state) for _ in range(3)]
    await two_versions(opened[0])
    yield opened
    for journal in opened:
        await journal.close()


async def two_versions(journal: Database) -> None:
    now = datetime.now(UTC)
    for version, seconds, status in (("2.0", 86400, "good"), ("2.1", 600, None)):
        deployed = deployment(id=version, service="backend", version=version, at=ago(seconds, now), artifact="sha")
        await journal.transaction(registry.record, deployed, status)


async def succeeds(journal: Database, decided: Decided) -> None:
    """Ends the rollback that was accepted."""
    assert decided.execution is not None
    closed = Closed(at=datetime.now(UTC), outcome="succeeded", by="responder", reason="")
    await journal.transaction(rollbacks.append, decided.execution, [closed], None)


def trouble() -> Incident:
    now = datetime.now(UTC)
    return incident(alerts=(alert(starts_at=ago(10, now)),), received_at=now)


async def judged(journal: Database, connections: Connections, *incidents: Incident) -> list[Decided]:
    return await respond(incidents, policy_set=policy_set(), journal=journal, connections=connections)


async def begun(replicas: Replicas) -> int:
    return len(await replicas[0].read(executions.find))


async def test_the_same_alert_at_every_replica(
    replicas: Replicas, connections: Connections, alertmanager: FakeAlertmanager, prometheus: FakePrometheus
) -> None:
    alertmanager.fires(LABELS, fingerprint(LABELS))
    prometheus.sees(LABELS)
    repeated = trouble()
    found = await asyncio.gather(*(judged(journal, connections, repeated) for journal in replicas))
    guard_results = sorted((each.result, each.decision.deciding.guard) for decided in found for each in decided)
    assert guard_results == [("allow", "mode"), ("deny", "duplicate_alert"), ("deny", "duplicate_alert")]
    assert await begun(replicas) == 1


async def test_returning_trouble_is_seen_by_every_replica(
    replicas: Replicas, connections: Connections, alertmanager: FakeAlertmanager, prometheus: FakePrometheus
) -> None:
    alertmanager.fires(LABELS, fingerprint(LABELS))
    prometheus.evaluates(LABELS)
    (refused,) = await judged(replicas[0], connections, trouble())
    assert refused.decision.deciding.guard == "trouble_now"
    waiting = [WaitingIncidents(journal, policy_set, lambda: connections) for journal in replicas]
    assert await asyncio.gather(*(replica.due() for replica in waiting)) == [Due()] * 3

    prometheus.sees(LABELS)
    due = await asyncio.gather(*(replica.due() for replica in waiting))
    assert [[incident.id for incident in found.visible] for found in due] == [[refused.incident.id]] * 3
    await asyncio.gather(*(judged(j, connections, *found.visible) for j, found in zip(replicas, due, strict=True)))
    assert await begun(replicas) == 1
    kept = await replicas[0].read(decisions.find, service=None, since=None, most=100)
    assert [row["guard"] for row in kept if row["result"] == "allow"] == ["mode"]
    assert await asyncio.gather(*(replica.due() for replica in waiting)) == [Due()] * 3


async def test_after_its_rollback_an_incident_is_rarely_checked_until_something_is_deployed(
    journal: Database,
    connections: Connections,
    alertmanager: FakeAlertmanager,
    prometheus: FakePrometheus,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A check is a request to the service. A new deployment may be bad again, so it is checked at once."""
    checked: list[str] = []

    async def not_visible(incident: Incident, *args: Any) -> TroubleNow:
        checked.append(incident.service)
        return TroubleNow(state="gone", reason="healthy")

    await two_versions(journal)
    alertmanager.fires(LABELS, fingerprint(LABELS))
    prometheus.sees(LABELS)
    (decided,) = await judged(journal, connections, trouble())
    monkeypatch.setattr("responder.runtime.waiting.visible", not_visible)
    waiting = WaitingIncidents(journal, policy_set, lambda: connections)
    await waiting.due()
    assert checked == []  # the rollback runs
    await succeeds(journal, decided)
    for _ in range(3):
        await waiting.due()
    assert checked == ["backend"]

    await journal.transaction(registry.record, deployment(id="2.2", version="2.2", at=datetime.now(UTC)))
    for _ in range(2):
        await waiting.due()
    assert checked == ["backend"] * 3


async def test_an_alert_that_resolved_after_the_rollback_may_fire_again(
    journal: Database,
    connections: Connections,
    alertmanager: FakeAlertmanager,
    prometheus: FakePrometheus,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The rollback helped, although the incident was not checked for a while since the alert resolved."""
    await two_versions(journal)
    alertmanager.fires(LABELS, fingerprint(LABELS))
    prometheus.sees(LABELS)
    (decided,) = await judged(journal, connections, trouble())
    await succeeds(journal, decided)
    prometheus.recorded.clear()
    prometheus.evaluated.clear()
    (other,) = await judged(journal, connections, incident(alerts=(alert(starts_at=datetime.now(UTC)),)))
    assert other.result == "deny"  # it waits too, and is checked each time
    monkeypatch.setattr(journal, "now", lambda: datetime.now(UTC) + timedelta(minutes=20))

    unresolved = WaitingIncidents(journal, policy_set, lambda: connections)
    assert [incident.id for incident in (await unresolved.due()).unresolved] == [decided.incident.id]

    waiting = WaitingIncidents(journal, policy_set, lambda: connections)
    firing, alertmanager.alerts = alertmanager.alerts, []
    for _ in range(2):
        assert await waiting.due() == Due()
    alertmanager.alerts = firing
    monkeypatch.setattr("responder.runtime.waiting._REVISIT_EVERY", 0.0)
    assert await waiting.due() == Due()

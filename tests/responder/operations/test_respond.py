"""Every decision is in the journal before the answer is sent, and at most one rollback starts."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from responder.backends.alertmanager.alerts import Alert, fingerprint
from responder.backends.connections import Connections
from responder.decisions.incidents import Incident
from responder.decisions.policy_set import PolicySet
from responder.errors import JournalUnavailable
from responder.journal import Database, decisions, executions
from responder.operations.decided import Decided
from responder.operations.explain import explain
from responder.operations.respond import Claimer, respond
from responder.operations.undecided import record_unmatched
from responder.services import registry
from tests.responder.examples import LABELS, ago, alert, deployment, incident, policy, policy_set, service
from tests.responder.outside import FakeAlertmanager, FakePrometheus

FINGERPRINT = fingerprint(LABELS)


@pytest.fixture(autouse=True)
async def everything_speaks_for_it(
    journal: Database, alertmanager: FakeAlertmanager, prometheus: FakePrometheus
) -> None:
    now = datetime.now(UTC)
    for name in ("backend", "frontend"):
        for version, seconds, status in (("2.0", 86400, "good"), ("2.1", 600, None)):
            deployed = deployment(
                id=f"{name}-{version}", service=name, version=version, at=ago(seconds, now), artifact="sha"
            )
            await journal.transaction(registry.record, deployed, status)
    alertmanager.fires(LABELS, FINGERPRINT)
    prometheus.sees(LABELS)


def now_firing(**other: Any) -> Alert:
    return alert(starts_at=ago(10, datetime.now(UTC)), **other)


def trouble(**other: Any) -> Incident:
    return incident(**{"alerts": (now_firing(),), "received_at": datetime.now(UTC), **other})


async def answered(
    journal: Database,
    connections: Connections,
    *incidents: Incident,
    by: PolicySet | None = None,
    claimer: Claimer | None = None,
) -> list[Decided]:
    return await respond(
        incidents, policy_set=by or policy_set(), journal=journal, connections=connections, claimer=claimer
    )


async def kept(journal: Database) -> list[Any]:
    return list(await journal.read(decisions.find, service=None, since=None, most=100))


async def begun(journal: Database) -> list[Any]:
    return list(await journal.read(executions.find))


async def test_an_accepted_execution_has_all_required_fields(journal: Database, connections: Connections) -> None:
    opened = trouble(truncated_alerts=2, requested_by="am-1", policy=policy(on_stop="hold"))
    (decided,) = await answered(journal, connections, opened)
    assert decided.execution is not None
    accepted = (await journal.read(executions.load, decided.execution.id)).accepted
    assert (accepted.from_version, accepted.to_version, accepted.artifacts, accepted.strategy) == (
        "2.1",
        "2.0",
        {"": "sha"},
        "immediate",
    )
    assert (accepted.requested_by, accepted.truncated_alerts, accepted.on_stop) == ("am-1", 2, "hold")
    assert (accepted.alerts, accepted.approval_reason) == (opened.alerts, "")
    (record,) = await kept(journal)
    body = json.loads(record["body"])
    assert (record["result"], record["execution"]) == ("allow", decided.execution.id)
    assert (body["running"]["version"], body["target"]["version"], body["live"]["state"]) == ("2.1", "2.0", "firing")


async def test_an_approval_is_requested_and_locks_the_service(journal: Database, connections: Connections) -> None:
    careful = policy(mode="approve")
    (decided,) = await answered(journal, connections, trouble(policy=careful), by=policy_set(careful))
    assert decided.execution is not None
    assert decided.execution.accepted.approval_reason == "policy backend-down requires approval"
    (again,) = await answered(journal, connections, trouble(alerts=(alert({**LABELS, "pod": "p"}),)))
    assert again.payload()["guard"] == "in_progress"


async def test_an_incident_denied_by_the_journal_is_not_looked_up_in_alertmanager(
    journal: Database, connections: Connections, alertmanager: FakeAlertmanager
) -> None:
    await journal.transaction(decisions.set_kill_switch, "bob", "storm", datetime.now(UTC))
    (decided,) = await answered(journal, connections, trouble())
    assert decided.payload()["guard"] == "kill_switch"
    assert alertmanager.requests == []
    assert len(await kept(journal)) == 1


async def test_a_kill_switch_thrown_during_the_query_of_alertmanager_counts(
    journal: Database, connections: Connections, alertmanager: FakeAlertmanager
) -> None:
    alertmanager.hangs = True
    asking = asyncio.create_task(answered(journal, connections, trouble()))
    while not alertmanager.requests:
        await asyncio.sleep(0.002)
    await journal.transaction(decisions.set_kill_switch, "bob", "storm", datetime.now(UTC))
    (decided,) = await asking
    assert decided.payload()["guard"] == "kill_switch"
    assert await begun(journal) == []


async def test_several_services_are_decided_separately(journal: Database, connections: Connections) -> None:
    by = policy_set(services=(service(), service("frontend")))
    found = await answered(
        journal, connections, trouble(), trouble(service="frontend"), trouble(service="nobody"), by=by
    )
    results = {d.incident.service: (d.payload()["result"], d.execution is not None) for d in found}
    assert results == {"backend": ("allow", True), "frontend": ("allow", True), "nobody": ("deny", False)}


async def test_two_policies_for_the_same_service_open_one_rollback(journal: Database, connections: Connections) -> None:
    found = await answered(journal, connections, trouble(), trouble(policy=policy(name="another")))
    assert sorted(d.payload()["guard"] for d in found) == ["in_progress", "mode"]
    assert len(await begun(journal)) == 1


async def test_simultaneous_requests_open_one_rollback(journal: Database, connections: Connections) -> None:
    repeated = trouble()
    found = await asyncio.gather(*(answered(journal, connections, repeated) for _ in range(10)))
    assert len({d.execution.id for many in found for d in many if d.execution}) == 1
    assert len(await begun(journal)) == 1


async def test_a_repeated_denial_is_counted_with_its_latest_reason(journal: Database, connections: Connections) -> None:
    old = trouble(alerts=(alert(),), policy=policy(deployed_within=1.0))
    for _ in range(3):
        await answered(journal, connections, old)
    (record,) = await kept(journal)
    assert (record["times"], record["guard"]) == (3, "deployed_within")
    assert record["last_at"] > record["at"]


async def test_a_denied_flood_keeps_some_alerts_and_their_number(journal: Database, connections: Connections) -> None:
    flood = tuple(now_firing(labels={**LABELS, "pod": str(n)}) for n in range(50))
    await answered(journal, connections, trouble(alerts=flood, policy=policy(deployed_within=1.0)))
    body = json.loads((await kept(journal))[0]["body"])
    assert (len(body["alerts"]), body["total_alerts"]) == (20, 50)


async def test_the_worker_of_this_process_claims_it_in_the_same_transaction(
    journal: Database, connections: Connections
) -> None:
    await journal.transaction(executions.register, "w1", 15.0, datetime.now(UTC))
    by = policy_set(services=(service(), service("frontend")))
    claimer = Claimer(worker="w1", concurrent=1)
    found = await answered(journal, connections, trouble(), trouble(service="frontend"), by=by, claimer=claimer)
    assert [(d.execution is not None, d.claimed) for d in found] == [(True, True), (True, False)]


async def test_an_unwritable_journal_accepts_nothing(journal: Database, connections: Connections) -> None:
    class Broken:
        def now(self) -> datetime:
            return datetime.now(UTC)

        async def transaction(self, *_: Any) -> None:
            raise JournalUnavailable("disk full")

    with pytest.raises(JournalUnavailable, match="disk full"):
        await respond([trouble()], policy_set=policy_set(), journal=Broken(), connections=connections)  # type: ignore[arg-type]
    assert await begun(journal) == []


async def test_a_large_body_is_recorded_in_parts_and_each_begins_right_after_its_own(
    journal: Database, connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("responder.operations.respond._AT_ONCE", 10)

    class Failing:
        left = 2

        def now(self) -> datetime:
            return journal.now()

        async def transaction(self, *args: Any) -> Any:
            if not self.left:
                raise JournalUnavailable("disk full")
            self.left -= 1
            return await journal.transaction(*args)

    begun_parts: list[list[Decided]] = []
    incidents = [trouble(service=f"s{n:02d}") for n in range(25)]
    with pytest.raises(JournalUnavailable, match="disk full"):
        await respond(
            incidents, policy_set=policy_set(), journal=Failing(), connections=connections, begin=begun_parts.append
        )
    assert [len(part) for part in begun_parts] == [10, 10]
    assert {row["service"] for row in await kept(journal)} == {f"s{n:02d}" for n in range(20)}
    again = await answered(journal, connections, *incidents)
    assert [d.incident.service for d in again] == [f"s{n:02d}" for n in range(25)]
    assert [row["times"] for row in await kept(journal)].count(2) == 20


async def test_explaining_records_nothing(journal: Database, connections: Connections) -> None:
    (explained,) = await explain([trouble()], policy_set=policy_set(), journal=journal, connections=connections)
    assert (explained.payload()["result"], explained.execution) == ("allow", None)
    assert await kept(journal) == []
    assert await begun(journal) == []


async def test_alerts_without_a_policy(journal: Database) -> None:
    now = datetime.now(UTC)
    strangers = [alert({"alertname": f"A{n}", "service": "x", "environment": "y"}) for n in range(7)]
    payload = await record_unmatched(journal, strangers, now)
    assert payload["reason"] == "no policy matches A0, A1, A2, A3, A4 …"
    assert (payload["service"], payload["environment"], payload["result"]) == ("x", "y", "ignore")
    await record_unmatched(journal, strangers, now)
    (record,) = await kept(journal)
    assert record["times"] == 2


async def test_alerts_of_several_unknown_services_belong_to_none(journal: Database) -> None:
    strangers = [alert({"alertname": "A", "service": "x"}), alert({"alertname": "A", "service": "z"})]
    assert (await record_unmatched(journal, strangers, datetime.now(UTC)))["service"] == ""

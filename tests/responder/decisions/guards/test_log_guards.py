"""A policy preserves logs once per incident and cooldown, and a policy that only preserves logs never rolls back."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from responder.backends.connections import Connections
from responder.decisions.facts import Facts, KeptLast
from responder.decisions.guards import LOG_GUARDS, decide, needs_live_data
from responder.decisions.incidents import match_alerts
from responder.decisions.policies import Policy, PolicyIndex
from responder.errors import Conflict
from responder.journal import Database, decisions, evidence, executions
from responder.operations.decided import Decided
from responder.operations.respond import respond
from responder.services import registry
from tests.responder.examples import LABELS, NOW, ago, alert, deployment, incident, past, policy, policy_set, service
from tests.responder.outside import FakeAlertmanager, FakePrometheus

OVERLOAD = {"alertname": "SystemOverload", "environment": "production"}


def keeps(**other: Any) -> Policy:
    fields = {"name": "keep-logs", "match": ['alertname="SystemOverload"'], "preserve_logs": ("backend", "frontend")}
    return Policy(**{**fields, **other})


def both() -> Policy:
    return policy(preserve_logs=("backend", "frontend"))


def test_each_action_of_a_policy_is_its_own_incident() -> None:
    incidents, _ = match_alerts([alert()], PolicyIndex([both()]), NOW, sender="am")
    assert [(i.action, i.service) for i in incidents] == [
        ("roll_back", "backend"),
        ("preserve_logs", "backend"),
        ("preserve_logs", "frontend"),
    ]
    assert len({i.id for i in incidents}) == 3


def test_a_request_by_an_engineer_forces_only_the_rollback() -> None:
    forced = policy(force=True, preserve_logs=("backend",))
    request = alert({**LABELS, "version": "1.9"}, annotations={"reason": "errors"})
    back, keep = match_alerts([request], PolicyIndex([forced]), NOW, sender="am")[0]
    assert (back.forced, back.version, back.reason) == (True, "1.9", "errors")
    assert (keep.forced, keep.version, keep.reason) == (False, None, "")


@pytest.mark.parametrize(
    ("facts", "guard", "result", "says"),
    [
        ({}, "cooldown", "allow", "no cooldown"),
        ({"stopped": "storm"}, "kill_switch", "deny", "automation is off: storm"),
        (
            {"service": None, "service_problem": "no service 'x' is configured"},
            "service_configured",
            "deny",
            "no service 'x'",
        ),
        ({"kept_for": "e1"}, "duplicate_alert", "deny", "logs were already kept for this alert: e1"),
        ({"latest": past(state="awaiting_approval")}, "in_progress", "deny", "and keeps the logs itself"),
        ({"latest": past(state="stuck")}, "cooldown", "allow", ""),
        ({"latest": past(state="closed")}, "cooldown", "allow", ""),
        ({"kept_last": KeptLast(id="e1", requested_at=ago(1700))}, "cooldown", "deny", "for another 1m40s after e1"),
        ({"kept_last": KeptLast(id="e1", requested_at=ago(1800))}, "cooldown", "allow", ""),
        # Facts that deny a rollback do not affect logs.
        ({"disarmed": "no watchdog", "running": None, "target": None}, "cooldown", "allow", ""),
    ],
)
def test_the_deciding_guard_for_log_preservation(facts: dict[str, Any], guard: str, result: str, says: str) -> None:
    case = incident(policy=keeps(), action="preserve_logs")
    decision = decide(case, Facts(**{"service": service(), **facts}), NOW, LOG_GUARDS)
    deciding = decision.deciding
    assert (deciding.guard, deciding.result) == (guard, result)
    assert says in deciding.reason
    assert not needs_live_data(case, decision, Facts(service=service())), "no external query"


async def decided(journal: Database, connections: Connections, policy: Policy, *, at: datetime) -> list[Decided]:
    services = (service(), service("frontend"))
    alerts = [alert(OVERLOAD if policy.name == "keep-logs" else LABELS, starts_at=at)]
    incidents, _ = match_alerts(alerts, PolicyIndex([policy]), datetime.now(UTC), sender="am")
    by = policy_set(policy, services=services)
    return await respond(incidents, policy_set=by, journal=journal, connections=connections)


def guard_results(found: list[Decided]) -> list[tuple[str, str, str]]:
    return [(decision.incident.service, decision.result, decision.decision.deciding.guard) for decision in found]


async def test_logs_are_requested_once_per_incident_and_cooldown(journal: Database, connections: Connections) -> None:
    began = datetime.now(UTC).replace(microsecond=0)
    first = await decided(journal, connections, keeps(), at=began)
    assert guard_results(first) == [("backend", "preserve", "cooldown"), ("frontend", "preserve", "cooldown")]
    assert all(decision.execution is None and decision.evidence for decision in first)
    again = await decided(journal, connections, keeps(), at=began)
    assert guard_results(again) == [("backend", "deny", "duplicate_alert"), ("frontend", "deny", "duplicate_alert")]
    again = await decided(journal, connections, keeps(), at=began + timedelta(seconds=1))
    assert guard_results(again) == [("backend", "deny", "cooldown"), ("frontend", "deny", "cooldown")]
    rested = await decided(journal, connections, keeps(cooldown=0.0), at=began + timedelta(seconds=2))
    assert guard_results(rested) == [("backend", "preserve", "cooldown"), ("frontend", "preserve", "cooldown")]
    assert await journal.read(executions.find) == []


async def test_the_decision_is_recorded_under_the_id_of_the_evidence(
    journal: Database, connections: Connections
) -> None:
    (decision,) = await decided(journal, connections, keeps(preserve_logs=("backend",)), at=datetime.now(UTC))
    (row,) = await journal.read(decisions.find, service=None, since=None, most=9)
    assert (row["id"], row["action"], row["result"], row["execution"]) == (
        decision.evidence,
        "preserve_logs",
        "preserve",
        None,
    )
    assert decision.payload()["evidence"] == decision.evidence
    assert [v["guard"] for v in json.loads(row["body"])["guard_results"]] == [guard.name for guard in LOG_GUARDS]


async def test_a_rollback_keeps_its_own_logs_and_other_services_are_preserved_beside_it(
    journal: Database, connections: Connections, alertmanager: FakeAlertmanager, prometheus: FakePrometheus
) -> None:
    now = datetime.now(UTC)
    prometheus.sees(LABELS)
    for version, seconds, status in (("2.0", 86400, "good"), ("2.1", 600, None)):
        deployed = deployment(id=version, version=version, at=ago(seconds, now))
        await journal.transaction(registry.record, deployed, status)
    alertmanager.fires(LABELS, alert().fingerprint)
    found = await decided(journal, connections, both(), at=ago(10, now))
    assert guard_results(found) == [
        ("backend", "allow", "mode"),
        ("backend", "deny", "in_progress"),
        ("frontend", "preserve", "cooldown"),
    ]
    assert sum(decision.execution is not None for decision in found) == 1


async def test_preserved_logs_do_not_count_as_trouble_of_a_version(journal: Database, connections: Connections) -> None:
    since = datetime.now(UTC) - timedelta(seconds=1)
    await decided(journal, connections, keeps(), at=datetime.now(UTC))
    where = {"service": "backend", "environment": "production"}

    async def trouble(tx: Any) -> tuple[Any, Any]:
        elsewhere = {**where, "service": "database", "until": since + timedelta(minutes=1), "most": 9}
        return await tx.all("trouble_since", **where, since=since, policy=None), await tx.all(
            "services_in_trouble", **elsewhere, since=since
        )

    assert await journal.read(trouble) == ([], [])


async def test_the_schema_rejects_a_second_preservation_for_the_same_alert(journal: Database) -> None:
    fields = {"policy": "p", "service": "s", "environment": "e", "deployment_id": "", "alerts": [alert()], "at": NOW}

    async def want(tx: Any, evidence_id: str) -> None:
        await evidence.request(tx, evidence_id, **fields)

    await journal.transaction(want, "e1")
    with pytest.raises(Conflict, match="were already collected for the alert BackendDown"):
        await journal.transaction(want, "e2")

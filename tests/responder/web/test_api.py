"""Reports and requests are recorded once, queries are answered, and a dry run changes nothing."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from responder.backends.alertmanager.alerts import fingerprint
from responder.decisions.guards import GUARDS
from responder.journal import archive, executions
from responder.rollback.events import ApprovalRequested, Closed, Planned, RetriesExhausted, StepCompleted, StepStarted
from responder.services import rollbacks
from tests.responder.examples import (
    LABELS,
    accepted,
    ago,
    alert,
    plan,
    policy,
    policy_set,
    sent_alert,
    sent_body,
    service,
)
from tests.responder.web.conftest import ResponderServer

NEW = {"service": "backend", "version": "2.1", "id": "ci-77"}


async def counts(responder: ResponderServer) -> tuple[int, ...]:
    """The number of rows in each table."""
    names = ("deployments", "executions", "decisions")
    return tuple([len((await responder.get(f"/api/v1/{name}"))[1][name]) for name in names])


async def begun(responder: ResponderServer, state: str) -> str:
    """Creates an execution in that state; returns its ID."""
    now = datetime.now(UTC)
    execution = await responder.journal.transaction(rollbacks.accept, "r1", accepted(at=now, received_at=now))
    events: list[Any] = {
        "accepted": [],
        "running": [Planned(at=now, plan=plan()), StepStarted(at=now, step=0, title="x")],
        "verifying": [
            Planned(at=now, plan=plan()),
            StepStarted(at=now, step=0, title="x"),
            StepCompleted(at=now, step=0, changed=True),
            StepStarted(at=now, step=1, title="y"),
        ],
        "awaiting_approval": [
            Planned(at=now, plan=plan()),
            ApprovalRequested(at=now, reason="ask", until=now + timedelta(minutes=5)),
        ],
        "expired": [
            Planned(at=now, plan=plan()),
            ApprovalRequested(at=now, reason="ask", until=now - timedelta(seconds=1)),
        ],
        "stuck": [Planned(at=now, plan=plan()), RetriesExhausted(at=now, reason="too often")],
        "closed": [Closed(at=now, outcome="failed", by="a", reason="b")],
    }[state]
    if events:
        await responder.append(execution.id, *events)
    return execution.id


# --- deployments and versions ---
async def test_a_deployment_reported_twice_is_recorded_once(responder: ResponderServer) -> None:
    status, first = await responder.post("/api/v1/deployments", NEW)
    assert (status, first["new"]) == (201, True)
    status, second = await responder.post("/api/v1/deployments", NEW)
    assert (status, second["new"]) == (200, False)
    assert (await counts(responder))[0] == 1


async def test_the_first_report_stays(responder: ResponderServer) -> None:
    """A repeated report gets the recorded values, not the new ones."""
    await responder.post("/api/v1/deployments", {**NEW, "at": "2026-11-23T20:00:00Z"})
    _, answer = await responder.post("/api/v1/deployments", {**NEW, "version": "9.9"})
    assert answer["deployment"]["version"] == "2.1"
    (kept,) = (await responder.get("/api/v1/deployments"))[1]["deployments"]
    assert kept["version"] == "2.1"


async def test_without_an_id_two_reports_are_two_deployments(responder: ResponderServer) -> None:
    payload = {"service": "backend", "version": "2.1"}
    ids = {(await responder.post("/api/v1/deployments", payload))[1]["deployment"]["id"] for _ in range(2)}
    assert len(ids) == 2


async def test_a_deployment_has_its_time_place_and_reporter(responder: ResponderServer) -> None:
    payload = {**NEW, "at": "2026-11-23T22:00:00+02:00", "artifact": "repo@sha256:ab", "by": "ci"}
    _, answer = await responder.post("/api/v1/deployments", payload)
    recorded = answer["deployment"]
    assert datetime.fromisoformat(recorded["at"]) == datetime(2026, 11, 23, 20, tzinfo=UTC)
    assert (recorded["environment"], recorded["recorded_by"], recorded["artifact"]) == (
        "production",
        "ci",
        "repo@sha256:ab",
    )
    (kept,) = (await responder.get("/api/v1/deployments?service=backend&environment=production"))[1]["deployments"]
    assert (kept["id"], kept["recorded_by"]) == ("ci-77", "ci")
    assert (await responder.get("/api/v1/deployments?service=other"))[1]["deployments"] == []


@pytest.mark.parametrize("status", ["candidate", "good", "suspect", "bad", "retired"])
async def test_a_version_is_listed_as_reported(responder: ResponderServer, status: str) -> None:
    await responder.post("/api/v1/deployments", {**NEW, "status": status})
    (version,) = (await responder.get("/api/v1/versions/backend"))[1]["versions"]
    assert (version["version"], version["status"]) == ("2.1", status)


async def test_a_version_is_a_candidate_and_a_second_deployment_keeps_its_status(
    responder: ResponderServer,
) -> None:
    await responder.post("/api/v1/deployments", NEW)
    (version,) = (await responder.get("/api/v1/versions/backend"))[1]["versions"]
    assert (version["status"], version["reason"]) == ("candidate", "newly deployed")
    await responder.post("/api/v1/deployments", {**NEW, "id": "b", "status": "bad"})
    await responder.post("/api/v1/deployments", {**NEW, "id": "c"})
    (version,) = (await responder.get("/api/v1/versions/backend"))[1]["versions"]
    assert version["status"] == "bad"


async def test_versions_of_one_environment(responder: ResponderServer) -> None:
    responder.policy_set = policy_set(services=(service(), service(environment="staging")))
    for environment in ("production", "staging"):
        payload = {**NEW, "id": environment, "environment": environment}
        assert (await responder.post("/api/v1/deployments", payload))[0] == 201
    found = (await responder.get("/api/v1/versions/backend?environment=staging"))[1]["versions"]
    assert [v["environment"] for v in found] == ["staging"]


@pytest.mark.parametrize(
    ("payload", "status", "where", "says"),
    [
        ({**NEW, "service": "nobody"}, 404, None, "no service 'nobody' is configured"),
        ({**NEW, "environment": "moon"}, 404, None, "backend is not configured in the environment 'moon'"),
        ({"service": "backend"}, 400, "version", "Field required"),
        ({**NEW, "version": ""}, 400, "version", ""),
        ({**NEW, "version": "../../etc"}, 400, "version", ""),
        ({**NEW, "version": "2 1"}, 400, "version", ""),
        ({**NEW, "version": "x" * 201}, 400, "version", "200"),
        ({**NEW, "version": 2.1}, 400, "version", "string"),
        ({**NEW, "at": "2026-11-23T22:00:00"}, 400, "at", "time zone"),
        ({**NEW, "at": "yesterday"}, 400, "at", ""),
        ({**NEW, "status": "great"}, 400, "status", "'candidate', 'good', 'suspect', 'bad' or 'retired'"),
        ({**NEW, "environmnt": "x"}, 400, "environmnt", "Extra inputs"),
        ([], 400, "body", "object"),
    ],
)
async def test_an_invalid_deployment_is_rejected_with_its_path(
    responder: ResponderServer, payload: Any, status: int, where: str | None, says: str
) -> None:
    got, body = await responder.post("/api/v1/deployments", payload)
    assert (got, body.get("where")) == (status, where)
    assert says in body["error"]
    assert (await counts(responder))[0] == 0


@pytest.mark.parametrize("version", [".", "..", "a\u0000b", "\u202e", "a\u001b[2J"])
async def test_an_invalid_version_name_is_rejected(responder: ResponderServer, version: str) -> None:
    """It becomes the name of a directory and is shown in terminals."""
    status, body = await responder.post("/api/v1/deployments", {**NEW, "version": version})
    assert (status, body.get("where")) == (400, "version")


async def test_a_service_in_several_environments_needs_one(responder: ResponderServer) -> None:
    responder.policy_set = policy_set(services=(service(), service(environment="staging")))
    status, body = await responder.post("/api/v1/deployments", NEW)
    assert (status, "backend is configured in production, staging" in body["error"]) == (404, True)


# --- rollbacks by hand ---
ASK = {"service": "backend", "reason": "errors after 2.1"}


async def test_a_manual_rollback_needs_neither_alert_nor_mode(responder: ResponderServer) -> None:
    await responder.good_then_new()
    responder.policy_set = policy_set(policy(mode="observe"), services=responder.policy_set.services)
    status, body = await responder.post("/api/v1/rollbacks", {**ASK, "by": "alice"})
    assert (status, body["result"], body["reason"]) == (202, "allow", "requested by alice")
    status, execution = await responder.get(f"/api/v1/executions/{body['execution']}")
    assert (status, execution["state"], execution["reason"], execution["requested_by"]) == (
        200,
        "accepted",
        "errors after 2.1",
        "alice",
    )
    assert execution["events"][0]["type"] == "accepted"
    assert responder.alertmanager.requests == []


async def test_a_version_may_be_named(responder: ResponderServer) -> None:
    await responder.deployed("1.9", 90000)
    await responder.good_then_new()
    _, body = await responder.post("/api/v1/rollbacks", {**ASK, "version": "1.9"})
    assert (await responder.get(f"/api/v1/executions/{body['execution']}"))[1]["to_version"] == "1.9"


@pytest.mark.parametrize(
    ("payload", "guard", "says"),
    [
        ({**ASK, "version": "0.1"}, "target_version", "version 0.1 is unknown"),
        ({**ASK, "version": "2.1"}, "target_version", "2.1 is already running"),
    ],
)
async def test_a_denied_manual_rollback_is_a_409_with_all_results(
    responder: ResponderServer, payload: dict[str, str], guard: str, says: str
) -> None:
    await responder.good_then_new()
    status, body = await responder.post("/api/v1/rollbacks", payload)
    assert (status, body["result"], body["guard"], body["execution"]) == (409, "deny", guard, None)
    assert says in body["reason"]
    assert [result["guard"] for result in body["guard_results"]] == [guard.name for guard in GUARDS]


@pytest.mark.parametrize(
    ("payload", "status", "where"),
    [
        ({"service": "backend"}, 400, "reason"),
        ({**ASK, "reason": ""}, 400, "reason"),
        ({**ASK, "reason": "x" * 1001}, 400, "reason"),
        ({**ASK, "dry_run": "perhaps"}, 400, "dry_run"),
        ({**ASK, "service": "nobody"}, 404, None),
        ({**ASK, "force": True}, 400, "force"),
    ],
)
async def test_an_invalid_request(responder: ResponderServer, payload: Any, status: int, where: str | None) -> None:
    got, body = await responder.post("/api/v1/rollbacks", payload)
    assert (got, body.get("where")) == (status, where)


async def test_a_dry_run_shows_the_plan_and_changes_nothing(responder: ResponderServer) -> None:
    await responder.good_then_new()
    before = await counts(responder)
    status, body = await responder.post("/api/v1/rollbacks", {**ASK, "dry_run": True})
    assert (status, body["result"], body["execution"]) == (200, "allow", None)
    assert body["plan"]["step_descriptions"][0] == f"current release of {responder.shop}: 2.1 → 2.0"
    assert len(body["plan"]["hash"]) == 12
    assert await counts(responder) == before
    assert "responder_decisions_total{" not in await responder.series()
    assert (await responder.post("/api/v1/rollbacks", ASK))[0] == 202, "a dry run blocks no rollback"


async def test_a_dry_run_states_why_there_is_no_plan(responder: ResponderServer) -> None:
    await responder.good_then_new()
    (responder.shop / "current").unlink()
    (responder.shop / "current").symlink_to("releases/2.0")
    _, body = await responder.post("/api/v1/rollbacks", {**ASK, "dry_run": True})
    assert "2.1 was reported as running" in body["no_plan"]


async def test_a_dry_run_of_a_denied_rollback_shows_the_denial(responder: ResponderServer) -> None:
    status, body = await responder.post("/api/v1/rollbacks", {**ASK, "dry_run": True})
    assert (status, body["result"], body["guard"]) == (200, "deny", "deployed_within")
    assert "plan" not in body


# --- explain ---
async def test_explain_decides_on_a_body_and_records_nothing(responder: ResponderServer) -> None:
    await responder.good_then_new()
    responder.alertmanager.fires(LABELS, fingerprint(LABELS))
    responder.prometheus.sees(LABELS)
    before = await counts(responder)
    unheard, resolved = sent_alert({"alertname": "Unheard"}), sent_alert(status="resolved")
    status, body = await responder.post("/api/v1/explain", sent_body(sent_alert(), unheard, resolved))
    assert (status, body["resolved"], body["unmatched"]) == (200, 1, [{"alertname": "Unheard"}])
    (incident,) = body["incidents"]
    assert (incident["result"], incident["plan"]["parts"][0]["version"]["to_version"]) == ("allow", "2.0")
    assert await counts(responder) == before


async def test_explain_rejects_an_invalid_body_with_its_path(responder: ResponderServer) -> None:
    status, body = await responder.post("/api/v1/explain", sent_body(version="9"))
    assert (status, body["where"]) == (400, "version")


# --- executions ---
async def test_history_is_newest_first_and_can_be_filtered(responder: ResponderServer) -> None:
    now = datetime.now(UTC)
    for number, name in enumerate(("a", "b", "c")):
        event = accepted(service=name, alerts=(), at=now - timedelta(hours=number), received_at=now)
        await responder.journal.transaction(rollbacks.accept, f"r-{name}", event)
    await responder.append("r-c", Closed(at=now, outcome="failed", by="x", reason="y"))

    async def ids(query: str) -> list[str]:
        return [x["id"] for x in (await responder.get(f"/api/v1/executions{query}"))[1]["executions"]]

    assert await ids("") == ["r-a", "r-b", "r-c"]
    assert await ids("?service=b") == ["r-b"]
    assert await ids("?state=closed") == ["r-c"]
    assert await ids("?limit=1") == ["r-a"]
    since = (now - timedelta(minutes=90)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert await ids(f"?since={since}") == ["r-a", "r-b"]


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=-1", "limit"),
        ("limit=x", "limit"),
        ("limit=²", "limit"),
        ("since=yesterday", "since"),
        ("since=0001-01-01T00:00:00%2B10:00", "since"),
        ("state=sleeping", "state"),
    ],
)
async def test_an_invalid_query_is_a_400(responder: ResponderServer, query: str, where: str) -> None:
    status, body = await responder.get(f"/api/v1/executions?{query}")
    assert (status, body.get("where")) == (400, where)


@pytest.mark.parametrize("path", ["/api/v1/executions/none", "/api/v1/versions/nobody"])
async def test_an_unknown_name_is_a_404(responder: ResponderServer, path: str) -> None:
    status, body = await responder.get(path)
    assert status == 404
    assert body["error"]


@pytest.mark.parametrize("verb", ["approve", "stop", "close"])
async def test_operations_on_an_unknown_execution_are_a_404(responder: ResponderServer, verb: str) -> None:
    payload = {"approve": {"plan_hash": "x"}, "stop": {}, "close": {"reason": "x"}}[verb]
    status, body = await responder.post(f"/api/v1/executions/none/{verb}", payload)
    assert (status, body["error"]) == (404, "execution none does not exist")


# --- approve ---
async def test_an_approval_is_for_the_plan_that_was_read(responder: ResponderServer) -> None:
    execution_id = await begun(responder, "awaiting_approval")
    responder.still_fires()
    shown = (await responder.get(f"/api/v1/executions/{execution_id}"))[1]
    assert shown["plan_hash"] == plan().hash
    status, body = await responder.post(f"/api/v1/executions/{execution_id}/approve", {"plan_hash": "000000000000"})
    assert (status, "read it again" in body["error"]) == (409, True)
    payload = {"plan_hash": shown["plan_hash"], "by": "alice"}
    status, body = await responder.post(f"/api/v1/executions/{execution_id}/approve", payload)
    assert (status, body["state"], body["reason"]) == (200, "running", "approved by alice")
    status, body = await responder.post(f"/api/v1/executions/{execution_id}/approve", payload)
    assert (status, body["error"]) == (409, f"execution {execution_id} is running: no plan awaits approval")


async def test_an_approval_of_resolved_trouble_is_recorded_as_such(responder: ResponderServer) -> None:
    execution_id, payload = await begun(responder, "awaiting_approval"), {"plan_hash": plan().hash, "by": "alice"}
    responder.prometheus.vectors['probe_success{service="backend"}'] = [({}, "1")]
    status, body = await responder.post(f"/api/v1/executions/{execution_id}/approve", payload)
    assert (status, "approve with --although-resolved" in body["error"]) == (409, True)
    assert (await responder.journal.read(executions.load, execution_id)).state == "awaiting_approval"
    status, body = await responder.post(
        f"/api/v1/executions/{execution_id}/approve", {**payload, "although_resolved": True}
    )
    assert (status, body["state"]) == (200, "running")
    approved = (await responder.get(f"/api/v1/executions/{execution_id}"))[1]["events"][-1]
    assert (approved["by"], approved["although_resolved"]) == ("alice", True)


async def test_an_approval_under_a_silence_names_its_author(responder: ResponderServer) -> None:
    execution_id, fired = await begun(responder, "awaiting_approval"), alert()
    responder.alertmanager.fires(fired.labels, fired.fingerprint, state="suppressed", silenced_by=("s1",))
    silence = {"id": "s1", "createdBy": "bob", "comment": "mine", "endsAt": "2099-01-01T00:00:00Z", "matchers": []}
    responder.alertmanager.silences["s1"] = silence
    payload = {"plan_hash": plan().hash, "although_resolved": True}
    status, body = await responder.post(f"/api/v1/executions/{execution_id}/approve", payload)
    assert (status, "bob: mine" in body["error"]) == (409, True)
    assert (await responder.journal.read(executions.load, execution_id)).state == "awaiting_approval"


@pytest.mark.parametrize(
    ("state", "effect"),
    [
        ("accepted", "nothing has changed yet: backend stays on 2.1"),
        ("awaiting_approval", "nothing has changed yet: backend stays on 2.1"),
        ("running", "the changes made so far are reverted: backend returns to 2.1"),
        ("verifying", "backend runs 2.0 now; a stop returns traffic to 2.1"),
    ],
)
async def test_a_stop_states_the_effect_on_traffic(responder: ResponderServer, state: str, effect: str) -> None:
    execution_id = await begun(responder, state)
    assert (await responder.get(f"/api/v1/executions/{execution_id}"))[1]["effect_of_stop"] == effect
    status, body = await responder.post(f"/api/v1/executions/{execution_id}/stop", {"reason": "mine"})
    assert (status, body["effect"]) == (202, effect)


async def test_a_late_approval(responder: ResponderServer) -> None:
    execution_id = await begun(responder, "expired")
    status, body = await responder.post(f"/api/v1/executions/{execution_id}/approve", {"plan_hash": plan().hash})
    assert (status, body["error"]) == (409, f"execution {execution_id}: the approval has timed out")


@pytest.mark.parametrize("state", ["accepted", "running", "stuck", "closed"])
async def test_only_a_plan_that_awaits_approval_can_be_approved(responder: ResponderServer, state: str) -> None:
    execution_id = await begun(responder, state)
    status, body = await responder.post(f"/api/v1/executions/{execution_id}/approve", {"plan_hash": plan().hash})
    assert (status, "no plan awaits approval" in body["error"]) == (409, True)


async def test_an_approval_names_its_plan(responder: ResponderServer) -> None:
    status, body = await responder.post(f"/api/v1/executions/{await begun(responder, 'awaiting_approval')}/approve", {})
    assert (status, body["where"]) == (400, "plan_hash")


# --- stop and close ---
@pytest.mark.parametrize("state", ["accepted", "running", "awaiting_approval"])
async def test_a_running_rollback_can_be_stopped_and_the_first_requester_is_recorded(
    responder: ResponderServer, state: str
) -> None:
    execution_id = await begun(responder, state)
    for by in ("alice", "bob"):
        status, body = await responder.post(
            f"/api/v1/executions/{execution_id}/stop", {"reason": f"{by} says so", "by": by}
        )
        assert (status, body["stopped"]) == (202, execution_id)
    shown = (await responder.get(f"/api/v1/executions/{execution_id}"))[1]
    assert (shown["stop_requested_by"], shown["stop_reason"]) == ("alice", "alice says so")


@pytest.mark.parametrize("state", ["stuck", "closed"])
async def test_a_closed_rollback_cannot_be_stopped(responder: ResponderServer, state: str) -> None:
    execution_id = await begun(responder, state)
    status, body = await responder.post(f"/api/v1/executions/{execution_id}/stop", {})
    assert (status, body["error"]) == (409, f"execution {execution_id} is {state}: it can no longer be stopped")


@pytest.mark.parametrize("outcome", ["failed", "succeeded", "reverted", "cancelled", "mitigated"])
async def test_a_stuck_rollback_is_closed_by_a_human(responder: ResponderServer, outcome: str) -> None:
    await responder.good_then_new()
    execution_id = await begun(responder, "stuck")
    payload = {"reason": "fixed by hand", "outcome": outcome, "by": "alice"}
    status, body = await responder.post(f"/api/v1/executions/{execution_id}/close", payload)
    assert (status, body["state"], body["outcome"]) == (200, "closed", outcome)
    assert body["reason"] == "fixed by hand (was: too often)"
    last = (await responder.get(f"/api/v1/executions/{execution_id}"))[1]["events"][-1]
    assert (last["type"], last["by"]) == ("closed", "alice")
    running = (await responder.get("/api/v1/status"))[1]["services"][0]
    assert running["version"] == ("2.0" if outcome in ("succeeded", "mitigated") else "2.1")


async def test_a_rollback_closed_by_a_human_is_counted(responder: ResponderServer) -> None:
    execution_id = await begun(responder, "stuck")
    await responder.post(f"/api/v1/executions/{execution_id}/close", {"reason": "fixed by hand"})
    wanted = 'responder_executions_total{outcome="failed",service="backend",strategy="immediate"} 1.0'
    assert wanted in await responder.series()


@pytest.mark.parametrize("state", ["accepted", "running", "awaiting_approval", "closed"])
async def test_only_a_stuck_rollback_can_be_closed_by_hand(responder: ResponderServer, state: str) -> None:
    execution_id = await begun(responder, state)
    status, body = await responder.post(f"/api/v1/executions/{execution_id}/close", {"reason": "x"})
    assert (status, body["error"]) == (
        409,
        f"execution {execution_id} is {state}: only a stuck execution can be closed",
    )


async def test_closing_needs_a_reason(responder: ResponderServer) -> None:
    execution_id = await begun(responder, "stuck")
    for payload in ({}, {"reason": ""}, {"reason": "x", "outcome": "fine"}):
        assert (await responder.post(f"/api/v1/executions/{execution_id}/close", payload))[0] == 400


async def test_the_kill_switch(responder: ResponderServer) -> None:
    await responder.good_then_new()
    responder.alertmanager.fires(LABELS, fingerprint(LABELS))
    responder.prometheus.sees(LABELS)
    status, body = await responder.post("/api/v1/executions/all/stop", {"reason": "storm", "by": "bob"})
    assert (status, body) == (202, {"stopped": "all", "by": "bob", "reason": "storm"})
    (decision,) = (await responder.post("/api/v1/alerts", sent_body()))[1]["decisions"]
    assert (decision["guard"], decision["reason"]) == ("kill_switch", "automation is off: stopped by bob: storm")
    status, body = await responder.post("/api/v1/rollbacks", ASK)
    assert (status, body["guard"]) == (409, "kill_switch"), "requests by a person are denied too"
    assert (await responder.get("/api/v1/status"))[1]["armed"] is False
    assert "responder_armed 0.0" in await responder.series()

    assert (await responder.post("/api/v1/executions/all/close", {"reason": "over"}))[0] == 200
    assert (await responder.get("/api/v1/status"))[1]["armed"] is True
    assert (await responder.post("/api/v1/alerts", sent_body()))[1]["decisions"][0]["result"] == "allow"
    status, body = await responder.post("/api/v1/executions/all/close", {"reason": "again"})
    assert (status, body["error"]) == (409, "the kill switch is not thrown")


async def test_decisions_are_newest_first_and_can_be_filtered(responder: ResponderServer) -> None:
    for name in ("one", "two"):
        await responder.post("/api/v1/alerts", sent_body(sent_alert({"alertname": name, "service": name})))
    found = (await responder.get("/api/v1/decisions"))[1]["decisions"]
    assert [d["service"] for d in found] == ["two", "one"]
    assert found[0]["body"]["alerts"][0]["labels"] == {"alertname": "two", "service": "two"}
    assert len((await responder.get("/api/v1/decisions?service=one"))[1]["decisions"]) == 1
    later = ago(-60, datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert (await responder.get(f"/api/v1/decisions?since={later}"))[1]["decisions"] == []


# --- all automation ---
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/api/v1/deployments", None),
        ("POST", "/api/v1/deployments", NEW),
        ("GET", "/api/v1/executions", None),
        ("POST", "/api/v1/rollbacks", ASK),
        ("GET", "/api/v1/decisions", None),
        ("POST", "/api/v1/executions/all/stop", {}),
        ("GET", "/api/v1/status", None),
    ],
)
async def test_an_unusable_journal_is_a_503(responder: ResponderServer, method: str, path: str, body: Any) -> None:
    connection = sqlite3.connect(responder.file)
    for (view,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'view'").fetchall():
        connection.execute(f"DROP VIEW {view}")
    for table in ("switches", "recorded_deployments", "executions", "decisions"):
        connection.execute(f"DROP TABLE {table}")
    connection.close()
    status, answer = await responder.ask(method, path, body)
    assert status == 503
    assert "the journal" in answer["error"]


@pytest.mark.parametrize("path", ["deployments", "rollbacks", "executions/all/stop", "executions/x/close"])
@pytest.mark.parametrize("body", [b"{", b"[" * 5000, b"\xff", b'"x"', b"null"])
async def test_an_invalid_body_is_a_400(responder: ResponderServer, path: str, body: bytes) -> None:
    status, answer = await responder.post(f"/api/v1/{path}", body)
    assert status == 400
    assert json.dumps(answer)


# --- marks and previews ---
async def test_marks_by_a_person(responder: ResponderServer) -> None:
    await responder.good_then_new()
    path = "/api/v1/versions/backend/2.1"
    status, body = await responder.post(path, {"no_rollback": "fixes CVE-2026-1", "by": "alice"})
    assert (status, body["version"]["no_rollback"]) == (200, "fixes CVE-2026-1 (alice)")
    status, body = await responder.post("/api/v1/rollbacks", {"service": "backend", "reason": "x"})
    assert (status, body["guard"], "CVE-2026-1" in body["reason"]) == (409, "protected_version", True)
    status, body = await responder.post(path, {"no_rollback": "", "status": "bad", "reason": "eats rows", "by": "bob"})
    version = body["version"]
    assert (version["status"], version["reason"], version["no_rollback"]) == ("bad", "bob: eats rows", "")


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("backend/2.1", {}, 400, "needs status or no_rollback"),
        ("backend/9.9", {"status": "bad"}, 404, "version 9.9 of backend in production is not known"),
        ("nobody/2.1", {"status": "bad"}, 404, "no service 'nobody' is configured"),
        ("backend/2.1", {"status": "worse"}, 400, "Input should be"),
    ],
)
async def test_an_invalid_mark(responder: ResponderServer, path: str, body: Any, status: int, message: str) -> None:
    await responder.good_then_new()
    answered, found = await responder.post(f"/api/v1/versions/{path}", body)
    assert (answered, message in found["error"]) == (status, True)


async def test_a_preview_starts_nothing(responder: ResponderServer) -> None:
    await responder.good_then_new()
    query = "/api/v1/preview?alertname=BackendDown&service=backend&environment=production"
    status, body = await responder.get(query)
    [incident] = body["incidents"]
    assert (status, incident["result"], incident["guard"]) == (200, "deny", "still_firing"), "nothing fires"
    responder.alertmanager.fires({**LABELS, "pod": "p"}, fingerprint({**LABELS, "pod": "p"}))
    responder.prometheus.sees({**LABELS, "pod": "p"})
    [incident] = (await responder.get(query))[1]["incidents"]
    assert (incident["result"], incident["plan"]["parts"][0]["version"]["to_version"]) == ("allow", "2.0")
    assert (await responder.get("/api/v1/executions"))[1]["executions"] == []
    assert (await responder.get("/api/v1/decisions"))[1]["decisions"] == []
    assert (await responder.get("/api/v1/preview"))[0] == 400


async def test_a_deployment_from_a_clock_that_is_ahead(responder: ResponderServer) -> None:
    ahead = (datetime.now(UTC) + timedelta(seconds=60)).isoformat()
    payload = {"service": "backend", "version": "3.0", "at": ahead}
    status, body = await responder.post("/api/v1/deployments", payload)
    assert status == 201
    assert datetime.fromisoformat(body["deployment"]["at"]) <= datetime.now(UTC)
    far = (datetime.now(UTC) + timedelta(minutes=10)).isoformat()
    status, body = await responder.post("/api/v1/deployments", {**payload, "at": far})
    assert (status, body["where"], "check the clock of the sender" in body["error"]) == (400, "at", True)


async def test_an_archived_rollback_is_shown_with_its_archive(responder: ResponderServer) -> None:
    execution_id = await begun(responder, "closed")
    await responder.journal.transaction(archive.delete_rollbacks, [execution_id], "s3://audit/x.jsonl.gz")
    status, shown = await responder.get(f"/api/v1/executions/{execution_id}")
    assert (status, shown["archived_in"], shown["events"]) == (200, "s3://audit/x.jsonl.gz", [])
    status, body = await responder.get(f"/api/v1/executions/{execution_id}/report")
    assert status == 404
    assert f"the events of execution {execution_id} were archived in s3://audit/x.jsonl.gz" in json.dumps(body)

"""The status is accurate: unknown values are absent or named, and never zero."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from responder.backends.docker.compose_override import ComposeOverride
from responder.decisions.policies import Policy
from responder.rollback.events import (
    ApprovalRequested,
    Closed,
    Event,
    Planned,
    RetriesExhausted,
    StepCompleted,
    StepFailed,
    StepStarted,
)
from responder.rollback.plan import Change
from responder.services import rollbacks
from tests.responder.examples import accepted, alert, gate, plan, policy, policy_set, service
from tests.responder.web.conftest import ResponderServer


async def text(responder: ResponderServer, path: str) -> tuple[int, str]:
    async with responder.client.get(path) as response:
        return response.status, await response.text()


async def test_a_running_process_is_healthy_without_its_journal(responder: ResponderServer) -> None:
    assert await text(responder, "/-/healthy") == (200, "healthy\n")
    responder.break_journal()
    assert await text(responder, "/-/healthy") == (200, "healthy\n")


async def test_ready_means_that_it_can_act(responder: ResponderServer) -> None:
    assert await text(responder, "/-/ready") == (503, "no lease yet\n")
    working = asyncio.create_task(responder.worker.run())
    while not responder.worker.has_lease:
        await asyncio.sleep(0.005)
    assert await text(responder, "/-/ready") == (200, "ready\n")
    responder.break_journal()
    status, reason = await text(responder, "/-/ready")
    assert (status, "no such table: switches" in reason) == (503, True)
    responder.mend_journal()
    working.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await working
    assert await text(responder, "/-/ready") == (503, "no lease yet\n")


async def test_an_empty_responder(responder: ResponderServer) -> None:
    status, body = await responder.get("/api/v1/status")
    assert status == 200
    assert datetime.fromisoformat(body.pop("at")).tzinfo is not None
    assert body == {
        "armed": True,
        "stopped": None,
        "active": [],
        "waiting_for_approval": [],
        "stuck": [],
        "rollbacks": {},
        "services": [
            {
                "service": "backend",
                "environment": "production",
                "strategy": "immediate",
                "version": None,
                "status": None,
                "deployed_at": None,
                "deployment_id": None,
                "rolled_back_by": None,
                "last_rollback": None,
                "silenced": None,
                "pinned": [],
            }
        ],
        "policies": [{"name": "backend-down", "mode": "auto", "would_have_acted": 0, "last_at": None}],
        "integration_running": False,
        "deployment_id": None,
        "environment": "production",
        "health_status": None,
        "active_rollbacks": 0,
        "total_rollbacks": 0,
        "auto_rollback_enabled": True,
        "last_report_time": None,
        "notifications": [],
    }


async def test_summary_fields_are_null_if_unknown_or_ambiguous(responder: ResponderServer) -> None:
    """Unknown or ambiguous values are null."""
    staging = service(environment="staging")
    responder.policy_set = policy_set(services=(*responder.policy_set.services, staging))
    await responder.good_then_new()
    await responder.deployed("3.0", environment="staging")
    _, body = await responder.get("/api/v1/status")
    assert (body["deployment_id"], body["environment"]) == (None, None)
    event = accepted(alerts=(), at=datetime.now(UTC), received_at=datetime.now(UTC))
    await responder.journal.transaction(rollbacks.accept, "r1", event)
    _, body = await responder.get("/api/v1/status?service=backend&environment=production")
    assert (body["deployment_id"], body["environment"]) == ("deploy-2.1", "production")
    assert (body["active_rollbacks"], body["total_rollbacks"], len(body["services"])) == (1, 1, 1)
    _, body = await responder.get("/api/v1/status?environment=staging")
    assert (body["deployment_id"], body["active_rollbacks"], body["total_rollbacks"]) == ("deploy-3.0", 0, 0)
    assert body["active"] == []
    await responder.append("r1", StepFailed(at=datetime.now(UTC), reason="x"))
    await responder.append("r1", Closed(at=datetime.now(UTC), outcome="failed", by="r", reason=""))
    _, body = await responder.get("/api/v1/status?environment=production")
    last = body["services"][0]["last_rollback"]
    assert (last["id"], last["outcome"], body["active_rollbacks"], body["total_rollbacks"]) == ("r1", "failed", 0, 1)
    assert (await responder.get("/api/v1/status?service=nobody"))[0] == 404
    assert (await responder.get("/api/v1/status?service=backend&environment=moon"))[0] == 404


async def test_health_comes_from_the_last_report_about_the_same_services(responder: ResponderServer) -> None:
    promql = responder.policy_set.services[0].health_checks[0].model_dump()["promql"]
    responder.prometheus.vectors[promql] = [({}, "1")]
    _, body = await responder.get("/api/v1/status")
    assert (body["health_status"], body["last_report_time"], responder.prometheus.requests) == (None, None, [])
    working = asyncio.create_task(responder.worker.run())
    while not responder.worker.has_lease:
        await asyncio.sleep(0.005)
    _, body = await responder.get("/api/v1/status?health=now")
    assert (body["integration_running"], body["health_status"]) == (True, "healthy")
    assert datetime.fromisoformat(body["last_report_time"]) <= datetime.fromisoformat(body["at"])
    responder.prometheus.vectors[promql] = [({}, "0")]
    assert (await responder.get("/api/v1/status"))[1]["health_status"] == "healthy", "it queries nothing by itself"
    assert (await responder.get("/api/v1/status?service=backend"))[1]["health_status"] is None, (
        "no report about it alone"
    )
    assert (await responder.get("/api/v1/status?health=now"))[1]["health_status"] == "unhealthy"
    assert (await responder.get("/api/v1/status?health=soon"))[0] == 400
    working.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await working


@pytest.mark.parametrize(
    ("policies", "stopped", "enabled"),
    [
        ([policy(mode="auto")], False, True),
        ([policy(mode="auto")], True, False),
        ([policy(mode="approve")], False, False),
        ([policy(mode="observe"), policy(name="two", mode="auto")], False, True),
        ([policy(mode="auto", force=True)], False, False),
        ([policy(mode="auto", roll_back=("other",))], False, False),
    ],
)
async def test_automation_is_enabled_if_a_policy_may_act_now(
    responder: ResponderServer, policies: list[Policy], stopped: bool, enabled: bool
) -> None:
    responder.policy_set = policy_set(*policies, services=responder.policy_set.services)
    if stopped:
        await responder.post("/api/v1/executions/all/stop", {"reason": "x"})
    _, body = await responder.get("/api/v1/status?service=backend")
    assert body["auto_rollback_enabled"] is enabled


async def test_open_rollbacks_name_the_required_action(responder: ResponderServer) -> None:
    await responder.good_then_new()
    now = datetime.now(UTC)
    for name, events in (
        ("one", []),
        ("two", [Planned(at=now, plan=plan()), ApprovalRequested(at=now, reason="ask", until=now)]),
        ("three", [RetriesExhausted(at=now, reason="too often")]),
    ):
        event = accepted(service=name, alerts=(), at=now, received_at=now)
        await responder.journal.transaction(rollbacks.accept, f"r-{name}", event)
        if events:
            await responder.append(f"r-{name}", *events)
    _, body = await responder.get("/api/v1/status")
    assert [x["id"] for x in body["active"]] == ["r-one"]
    assert [(x["id"], x["plan_hash"]) for x in body["waiting_for_approval"]] == [("r-two", plan().hash)]
    assert [(x["id"], x["reason"]) for x in body["stuck"]] == [("r-three", "too often")]
    assert body["rollbacks"] == {"open": 3}
    assert (body["services"][0]["version"], body["services"][0]["status"]) == ("2.1", "candidate")


async def test_the_stop_file_disarms_it(responder: ResponderServer, tmp_path: Path) -> None:
    file = tmp_path / "stop"
    responder.policy_set = policy_set(services=(service(),), stop_file=file)
    assert "responder_armed 1.0" in await responder.series()
    file.touch()
    _, body = await responder.get("/api/v1/status")
    assert (body["armed"], body["stopped"]) == (False, f"the stop file {file} exists")
    assert "responder_armed 0.0" in await responder.series()


async def test_series_show_the_running_version(responder: ResponderServer) -> None:
    await responder.good_then_new()
    series = await responder.series()
    assert "responder_journal_up 1.0" in series
    assert "responder_stuck_executions 0.0" in series
    assert 'responder_executions_active{state="stuck"} 0.0' in series
    assert 'responder_deployment_timestamp_seconds{environment="production",service="backend"} ' in series
    assert 'version="2.1"' in series
    assert 'responder_target_info{environment="production",service="backend",version="2.0"} 1.0' in series
    assert series.count('version="2.0"') == 1, "only the running version and the target"
    assert 'responder_versions{environment="production",service="backend",status="candidate"} 1.0' in series


@pytest.mark.parametrize("ahead", [0, 900, -900])
async def test_the_clock_skew_is_a_series(
    responder: ResponderServer, ahead: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_database = responder.journal.now
    monkeypatch.setattr(responder.journal, "now", lambda: of_database() - timedelta(seconds=ahead))
    line = next(
        sample
        for sample in (await responder.series()).splitlines()
        if sample.startswith("responder_clock_skew_seconds ")
    )
    assert abs(float(line.split()[1]) - ahead) < 60


async def test_an_unreadable_journal_makes_series_absent_and_not_zero(responder: ResponderServer) -> None:
    responder.break_journal()
    series = await responder.series()
    assert "responder_journal_up 0.0" in series
    for name in (
        "responder_stuck_executions",
        "responder_armed",
        "responder_executions_active",
        "responder_deployment",
    ):
        assert f"\n{name}" not in series
    assert "process_start_time_seconds" in series


async def test_the_exposition_has_the_requested_format(responder: ResponderServer) -> None:
    for accept, content_type in (
        ("", "text/plain"),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text"),
    ):
        async with responder.client.get("/metrics", headers={"Accept": accept}) as response:
            body = await response.text()
            assert response.headers["Content-Type"].startswith(content_type)
            assert body.endswith("# EOF\n") is (content_type != "text/plain")


@pytest.mark.parametrize(
    ("accepted", "encoding"), [("gzip", "gzip"), ("br, gzip;q=0.5", "gzip"), ("br", None), ("", None)]
)
async def test_metrics_are_compressed_if_the_client_accepts_it(
    responder: ResponderServer, accepted: str, encoding: str | None
) -> None:
    async with responder.client.get("/metrics", headers={"Accept-Encoding": accepted}) as response:
        assert response.headers.get("Content-Encoding") == encoding
        assert "process_start_time_seconds" in await response.text()


async def test_a_service_that_fails_under_a_silence_names_its_author(responder: ResponderServer) -> None:
    responder.prometheus.vectors[responder.policy_set.services[0].health_checks[0].model_dump()["promql"]] = [({}, "0")]
    muted = alert()
    responder.alertmanager.fires(muted.labels, muted.fingerprint, state="suppressed", silenced_by=("s1",))
    silence = {"id": "s1", "createdBy": "bob", "comment": "mine", "endsAt": "2099-01-01T00:00:00Z", "matchers": []}
    responder.alertmanager.silences["s1"] = silence
    (shown,) = (await responder.get("/api/v1/status?health=now"))[1]["services"]
    assert shown["silenced"] == f"{muted.name}: silence s1 of bob: mine (until 2099-01-01 00:00:00 UTC)"
    report = (await responder.get("/api/v1/report"))[1]
    assert any("while its alerts are silenced" in warned["fact"] for warned in report["warnings"])
    assert (await responder.get("/api/v1/status"))[1]["services"][0]["silenced"] is None


async def test_a_pin_is_shown_until_another_deployment_is_reported(responder: ResponderServer, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    for version in ("2.0", "2.1"):
        await responder.deployed(version)
    pin = Change(resource=ComposeOverride(file=tmp_path / "o.yaml", service="app"), before=None, after="app:2.0")
    execution = await responder.journal.transaction(rollbacks.accept, "r1", accepted(at=now, received_at=now))
    events: list[Event] = [Planned(at=now, plan=plan(pin, gate(otherwise="freeze")))]
    for step in (0, 1):
        events += [StepStarted(at=now, step=step, title="x"), StepCompleted(at=now, step=step, changed=True)]
    await responder.append(execution.id, *events, Closed(at=now, outcome="succeeded", by="responder", reason="done"))
    pinned = [f"{tmp_path}/o.yaml keeps app at app:2.0"]
    assert (await responder.get("/api/v1/status"))[1]["services"][0]["pinned"] == pinned
    report = (await responder.get("/api/v1/report"))[1]
    assert [w["fact"] for w in report["warnings"] if "pinned" in w["fact"]] == [f"its version is pinned: {pinned[0]}"]
    deployment = {"service": "backend", "version": "3.0", "id": "d3"}
    assert (await responder.post("/api/v1/deployments", deployment))[1]["pinned"] == pinned
    assert (await responder.post("/api/v1/deployments", deployment))[1]["pinned"] == []
    assert (await responder.get("/api/v1/status"))[1]["services"][0]["pinned"] == []

"""Whoever asks how it is gets the truth: what is unknown is absent or said, and never a comfortable zero."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from pathlib import Path

from responder.execution import GaveUp, Held, Planned
from responder.journal import executions
from tests.responder.examples import accepted, mandate, plan, service
from tests.responder.web.conftest import House


async def text(house: House, path: str) -> tuple[int, str]:
    async with house.client.get(path) as response:
        return response.status, await response.text()


async def test_a_process_that_runs_is_healthy_whatever_its_journal_does(house: House) -> None:
    assert await text(house, "/-/healthy") == (200, "healthy\n")
    house.break_journal()
    assert await text(house, "/-/healthy") == (200, "healthy\n")


async def test_ready_means_that_it_may_act(house: House) -> None:
    assert await text(house, "/-/ready") == (503, "no lease yet\n")
    working = asyncio.create_task(house.worker.run())
    while not house.worker.has_lease:
        await asyncio.sleep(0.005)
    assert await text(house, "/-/ready") == (200, "ready\n")
    house.break_journal()
    assert await text(house, "/-/ready") == (503, "the journal cannot be read\n")
    house.mend_journal()
    working.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await working
    assert await text(house, "/-/ready") == (503, "no lease yet\n")


async def test_an_empty_house(house: House) -> None:
    status, body = await house.get("/api/v1/status")
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
                "rolled_back_by": None,
            }
        ],
        "policies": [{"name": "backend-down", "mode": "auto", "would_have_acted": 0, "last_at": None}],
        "notifications": [],
    }


async def test_what_is_open_is_told_by_what_it_needs(house: House) -> None:
    await house.good_then_new()
    now = datetime.now(UTC)
    for name, events in (
        ("one", []),
        ("two", [Planned(at=now, plan=plan()), Held(at=now, reason="ask", until=now)]),
        ("three", [GaveUp(at=now, reason="too often")]),
    ):
        told = accepted(service=name, alerts=(), at=now, received_at=now)
        await house.journal.transaction(executions.accept, f"r-{name}", told)
        if events:
            await house.append(f"r-{name}", *events)
    _, body = await house.get("/api/v1/status")
    assert [x["id"] for x in body["active"]] == ["r-one"]
    assert [(x["id"], x["plan_hash"]) for x in body["waiting_for_approval"]] == [("r-two", plan().hash)]
    assert [(x["id"], x["reason"]) for x in body["stuck"]] == [("r-three", "too often")]
    assert body["rollbacks"] == {"open": 3}
    assert (body["services"][0]["version"], body["services"][0]["status"]) == ("2.1", "candidate")


async def test_the_stop_file_disarms_it(house: House, tmp_path: Path) -> None:
    file = tmp_path / "stop"
    house.mandate = mandate(services=(service(),), stop_file=file)
    assert "responder_armed 1.0" in await house.series()
    file.touch()
    _, body = await house.get("/api/v1/status")
    assert (body["armed"], body["stopped"]) == (False, f"the stop file {file} exists")
    assert "responder_armed 0.0" in await house.series()


async def test_series_tell_what_runs(house: House) -> None:
    await house.good_then_new()
    series = await house.series()
    assert "responder_journal_up 1.0" in series
    assert "responder_stuck_executions 0.0" in series
    assert 'responder_executions_active{state="stuck"} 0.0' in series
    assert 'responder_deployment_timestamp_seconds{environment="production",service="backend"} ' in series
    assert 'version="2.1"' in series
    assert 'version="2.0"' not in series, "only what runs"


async def test_a_journal_that_cannot_be_read_makes_series_absent_and_not_zero(house: House) -> None:
    house.break_journal()
    series = await house.series()
    assert "responder_journal_up 0.0" in series
    for name in (
        "responder_stuck_executions",
        "responder_armed",
        "responder_executions_active",
        "responder_deployment",
    ):
        assert f"\n{name}" not in series
    assert "process_start_time_seconds" in series


async def test_the_exposition_is_what_the_scraper_asked_for(house: House) -> None:
    for accept, content_type in (
        ("", "text/plain"),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text"),
    ):
        async with house.client.get("/metrics", headers={"Accept": accept}) as response:
            body = await response.text()
            assert response.headers["Content-Type"].startswith(content_type)
            assert body.endswith("# EOF\n") is (content_type != "text/plain")

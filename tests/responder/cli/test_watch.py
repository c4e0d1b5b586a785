"""`watch` follows a rollback to its end, across interruptions and restarts, and leaves it running on exit."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web

from responder.backends.check import Finding
from responder.cli import client as client_module
from responder.cli import watch as watch_module
from responder.cli.client import ResponderClient
from responder.cli.watch import follow
from responder.errors import ResponderError
from responder.journal import executions
from responder.rollback.events import (
    ApprovalRequested,
    Closed,
    Planned,
    RetriesExhausted,
    StepCompleted,
    StepFailed,
    StepStarted,
)
from responder.services import rollbacks
from tests.responder.cli.test_main import Run, alone, ask, begin, run  # noqa: F401
from tests.responder.examples import accepted, change, plan
from tests.responder.outside import serving
from tests.responder.web.conftest import ResponderServer


def now() -> datetime:
    return datetime.now(UTC)


ONE_STEP = plan(change("2.1", "2.0"))


async def go_on(responder: ResponderServer, outcome: Any = "succeeded", pause: float = 0.1) -> None:
    """What a worker would write."""
    for events in (
        [Planned(at=now(), plan=ONE_STEP)],
        [StepStarted(at=now(), step=0, title="the one step")],
        [StepCompleted(at=now(), step=0, changed=True), Closed(at=now(), outcome=outcome, by="responder", reason="")],
    ):
        await asyncio.sleep(pause)
        responder.broadcast.happened(await responder.append("r1", *events), tuple(events))


@pytest.mark.parametrize(("outcome", "code"), [("succeeded", 0), ("failed", 1), ("reverted", 1)])
async def test_one_line_per_event_without_a_terminal(
    ask: Run,  # noqa: F811
    responder: ResponderServer,
    outcome: str,
    code: int,
) -> None:
    await responder.good_then_new()
    await begin(responder)
    going_on = asyncio.create_task(go_on(responder, outcome))
    result = await ask("watch", "r1")
    await going_on
    assert result.code == code
    kinds = [line.split()[2] for line in result.out.splitlines()]
    assert kinds == ["accepted", "planned", "step_started", "step_completed", "closed"]


async def test_json_is_one_document_at_the_end(ask: Run, responder: ResponderServer) -> None:  # noqa: F811
    await responder.good_then_new()
    await begin(responder)
    going_on = asyncio.create_task(go_on(responder))
    result = await ask("watch", "r1", "--output", "json")
    await going_on
    body = json.loads(result.out)
    assert (result.code, body["id"], body["outcome"], len(body["events"])) == (0, "r1", "succeeded", 5)


async def test_watch_waits_for_approval_but_a_script_does_not(ask: Run, responder: ResponderServer) -> None:  # noqa: F811
    await responder.good_then_new()
    out = (await ask("rollback", "backend", "--reason", "x", "--output", "json")).out
    execution_id = json.loads(out)["execution"]
    execution = await responder.append(
        execution_id, Planned(at=now(), plan=ONE_STEP), ApprovalRequested(at=now(), reason="ask", until=now())
    )
    url = str(responder.client.make_url("/")).rstrip("/")
    async with ResponderClient(url, None) as client:
        args = type("Args", (), {"output": "text"})()
        assert await watch_module.show_until(args, client, execution_id, watch_module.OVER | {"awaiting_approval"}) == 1
        following = asyncio.create_task(watch_module.show_until(args, client, execution_id, watch_module.OVER))
        await asyncio.sleep(0.3)
        assert not following.done()
        ended = (StepFailed(at=now(), reason="nobody"), Closed(at=now(), outcome="cancelled", by="r", reason=""))
        responder.broadcast.happened(await responder.append(execution.id, *ended), ended)
        assert await asyncio.wait_for(following, 60) == 1


async def test_a_stuck_rollback_ends_it_but_a_closed_one_succeeds(ask: Run, responder: ResponderServer) -> None:  # noqa: F811
    await responder.good_then_new()
    await begin(responder, RetriesExhausted(at=now(), reason="too often"))
    result = await ask("watch", "r1")
    assert (result.code, result.out.splitlines()[-1].split()[2:]) == (1, ["retries_exhausted", "too", "often"])
    await responder.append("r1", Closed(at=now(), outcome="succeeded", by="alice", reason="by hand"))
    result = await ask("watch", "r1")
    assert (result.code, result.out.splitlines()[-1].split()[2:4]) == (0, ["closed", "succeeded:"])


async def test_an_unknown_id_and_no_responder_exit_2(ask: Run, run: Run, free_port: int) -> None:  # noqa: F811
    assert (await ask("watch", "none")).err == "responder: execution none does not exist\n"
    assert (await ask("watch", "none")).code == 2
    assert (await ask("watch", "no such/../one")).code == 2
    assert (await run("watch", "x", "--url", f"http://127.0.0.1:{free_port}")).code == 2


async def test_in_a_terminal_it_is_drawn(responder: ResponderServer) -> None:
    """A complete process and its output: the steps, the progress bar and the end."""
    await responder.good_then_new()
    await begin(responder)
    async with watching(responder, "FORCE_COLOR") as process:
        await go_on(responder)
        out, err = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, err) == (0, b"")
    text = out.decode()
    assert "✓" in text
    assert "1 of 1" in text
    assert "succeeded" in text


async def test_ctrl_c_leaves_the_rollback_running_and_says_so(responder: ResponderServer) -> None:
    await begin(responder)
    async with watching(responder) as process:
        assert process.stdout is not None
        assert b"accepted" in await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 130
    assert err.decode().strip() == "the rollback continues; follow it again: responder watch r1"
    assert (await responder.journal.read(executions.load, "r1")).state == "accepted"


@contextlib.asynccontextmanager
async def watching(responder: ResponderServer, *forced: str) -> AsyncIterator[asyncio.subprocess.Process]:
    url = str(responder.client.make_url("/")).rstrip("/")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "responder", "watch", "r1", "--url", url,
        env={"PATH": "/usr/bin", "TERM": "xterm", "COLUMNS": "100", **dict.fromkeys(forced, "1")},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


# --- the connection ---
EVENTS = [
    {"seq": n, "type": kind, "state": state, "at": "2026-11-23T22:00:00+00:00"}
    for n, (kind, state) in enumerate([("accepted", "accepted"), ("planned", "running"), ("closed", "closed")])
]
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def scripted_responder(stream: Answer, known: int = 1) -> AsyncIterator[tuple[ResponderClient, list[str]]]:
    """A responder with a scripted stream; each poll returns one more event."""
    requests: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal known
        if "event-stream" in request.headers["Accept"]:
            requests.append("stream")
            return await stream(request)
        requests.append("poll")
        after = int(request.query["after"])
        body = {"events": EVENTS[after + 1 : known], "state": EVENTS[known - 1]["state"], "checks": []}
        known = min(known + 1, 3)
        return web.json_response(body, headers={"Server": "rollback-responder"})

    async with serving(**{"api/v1/executions/r1/events": answer}) as url, ResponderClient(url, None) as client:
        yield client, requests


async def streamed(request: web.Request, events: list[dict[str, Any]], text: str = "") -> web.StreamResponse:
    headers = {"Server": "rollback-responder", "Content-Type": "text/event-stream"}
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    for event in events:
        text += f"id: {event['seq']}\nevent: {event['type']}\ndata: {json.dumps(event)}\n\n"
    for n in range(0, len(text), 7):  # in pieces, as from a network
        await response.write(text[n : n + 7].encode())
    return response


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "AGAIN", 0.05)


async def test_an_interrupted_stream_resumes_after_the_last_event() -> None:
    places: list[str | None] = []

    async def one_at_a_time(request: web.Request) -> web.StreamResponse:
        places.append(request.headers.get("Last-Event-ID"))
        after = int(places[-1] or -1)
        return await streamed(request, EVENTS[after + 1 : after + 2], "retry: 1000\n\n: nothing new\n\n")

    async with scripted_responder(one_at_a_time) as (client, _):
        assert [event["seq"] async for _, event in follow(client, "r1")] == [0, 1, 2]
    assert places == ["0", "1"]


async def test_a_repeated_event_is_shown_once() -> None:
    async def again(request: web.Request) -> web.StreamResponse:
        return await streamed(request, [EVENTS[0], EVENTS[0], EVENTS[1], EVENTS[0], EVENTS[2]])

    async with scripted_responder(again) as (client, _):
        assert [event["seq"] async for _, event in follow(client, "r1")] == [0, 1, 2]


async def too_many(request: web.Request) -> web.StreamResponse:
    headers = {"Server": "rollback-responder"}
    return web.json_response({"error": "too many streams"}, status=503, headers=headers)


async def held_back(request: web.Request) -> web.StreamResponse:
    response = await streamed(request, [])
    await asyncio.sleep(10)
    return response


@pytest.mark.parametrize("stream", [too_many, held_back])
async def test_without_a_stream_it_polls(stream: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "FIRST_BYTES", 0.1)
    async with scripted_responder(stream) as (client, requests):
        assert [event["seq"] async for _, event in follow(client, "r1")] == [0, 1, 2]
    assert requests == ["poll", "stream", "poll", "poll"]


async def test_an_unavailable_responder_is_awaited_for_a_limited_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    monkeypatch.setattr(watch_module, "AWAY", 0.3)
    async with scripted_responder(broken) as (client, requests):
        with pytest.raises(ResponderError, match="cannot connect to the responder"):
            async for _ in follow(client, "r1"):
                pass
    assert requests.count("stream") > 2


async def test_findings_of_checks_arrive_by_stream_and_by_polling(responder: ResponderServer) -> None:
    url = str(responder.client.make_url("/")).rstrip("/")
    event = accepted(at=now(), received_at=now(), alerts=())
    await responder.journal.transaction(rollbacks.accept, "r1", event)
    await responder.append("r1", Planned(at=now(), plan=ONE_STEP), StepStarted(at=now(), step=0, title="x"))
    responder.worker.findings = lambda execution_id: [Finding(holds=False, reason="0 of 2")]  # type: ignore[method-assign]
    async with ResponderClient(url, None) as client, contextlib.aclosing(follow(client, "r1")) as events:
        found = [await anext(events) for _ in range(5)]
    assert [kind for kind, _ in found] == ["accepted", "planned", "step_started", "checks", "checks"]
    assert found[3][1]["findings"] == found[4][1]["findings"] == [{"holds": False, "reason": "0 of 2"}]

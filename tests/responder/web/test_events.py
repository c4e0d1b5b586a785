"""Every watcher gets each event once and in order, from any replica, and delays nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestServer
from pydantic import SecretStr

from responder.backends.check import Finding
from responder.journal import Database, executions, open_journal
from responder.rollback.events import Closed, Planned, RetriesExhausted, StepCompleted, StepFailed, StepStarted
from responder.services import rollbacks
from responder.web.access.access import Access
from responder.web.access.settings import Token, WebSettings
from responder.web.broadcast import ExecutionBroadcast
from responder.web.events import Events
from responder.web.http.server import routes
from tests.responder.examples import accepted, alert, change, plan
from tests.responder.web.conftest import SECRETS, ResponderServer


def now() -> datetime:
    return datetime.now(UTC)


async def begin(responder: ResponderServer, name: str = "r1", service: str = "backend", **other: Any) -> str:
    event = accepted(**{"service": service, "at": now(), "received_at": now(), "alerts": (), **other})
    await responder.journal.transaction(rollbacks.accept, name, event)
    return name


class Reader:
    """An EventSource like that of a browser."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.comments: list[str] = []

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        fields: dict[str, str] = {}
        async for raw in self.response.content:
            line = raw.decode().rstrip("\n")
            if not line and "data" in fields:
                yield {**fields, "data": json.loads(fields["data"])}
            if not line:
                fields = {}
            elif line.startswith(":"):
                self.comments.append(line)
            else:
                name, _, value = line.partition(": ")
                fields[name] = value

    async def take(self, count: int) -> list[dict[str, Any]]:
        taken = []
        async with asyncio.timeout(60):
            async for event in self:
                taken.append(event)
                if len(taken) == count:
                    break
        return taken


@asynccontextmanager
async def reading(responder: ResponderServer, path: str, **headers: str) -> AsyncIterator[Reader]:
    async with responder.client.get(path, headers={k.replace("_", "-"): v for k, v in headers.items()}) as response:
        assert response.status == 200, await response.text()
        yield Reader(response)


ONE = "/api/v1/executions/r1/events"


async def test_past_events_come_first_then_new_ones_until_the_end(
    responder: ResponderServer,
) -> None:
    await begin(responder, alerts=(alert(),))
    async with reading(responder, ONE) as reader:
        assert reader.response.content_type == "text/event-stream"
        (first,) = await reader.take(1)
        assert (first["id"], first["event"]) == ("0", "accepted")
        data = first["data"]
        assert (data["execution"], data["seq"], data["state"], data["service"]) == ("r1", 0, "accepted", "backend")
        assert ("alerts" in data, data["total_alerts"]) == (False, 1)
        await responder.append("r1", Planned(at=now(), plan=plan()), StepStarted(at=now(), step=0, title="one"))
        planned, started = await reader.take(2)
        assert planned["data"]["plan"]["steps"] == [str(step) for step in plan().steps]
        assert planned["data"]["plan"]["hash"] == plan().hash
        assert (started["id"], started["event"], started["data"]["state"]) == ("2", "step_started", "running")
        await responder.append("r1", RetriesExhausted(at=now(), reason="x"))
        await responder.append("r1", Closed(at=now(), outcome="failed", by="alice", reason="y"))
        remaining = [event async for event in reader]
        assert [(event["event"], event["data"]["state"]) for event in remaining] == [
            ("retries_exhausted", "stuck"),
            ("closed", "closed"),
        ]


@pytest.mark.parametrize(
    ("header", "query", "ids"),
    [("", "", ["0", "1", "2", "3"]), ("1", "", ["2", "3"]), ("3", "", []), ("", "?after=2", ["3"])],
)
async def test_an_interrupted_reader_resumes_after_its_last_event(
    responder: ResponderServer, header: str, query: str, ids: list[str]
) -> None:
    await begin(responder)
    await responder.append("r1", Planned(at=now(), plan=plan()), StepFailed(at=now(), reason="x"))
    await responder.append("r1", Closed(at=now(), outcome="failed", by="responder", reason=""))
    headers = {"Last_Event_ID": header} if header else {}
    async with reading(responder, ONE + query, **headers) as reader:
        assert [event["id"] async for event in reader] == ids


@pytest.mark.parametrize("value", ["x", "-2", "1.5", "99999999999", "0; DROP"])
async def test_an_invalid_event_number(responder: ResponderServer, value: str) -> None:
    await begin(responder)
    status, body = await responder.get(ONE, headers={"Last-Event-ID": value})
    assert (status, body["where"]) == (400, "Last-Event-ID")
    status, body = await responder.get("/api/v1/events", headers={"Last-Event-ID": value})
    assert (status, body["where"]) == (400, "Last-Event-ID")


async def test_an_unknown_execution_has_no_stream(responder: ResponderServer) -> None:
    status, body = await responder.get("/api/v1/executions/none/events")
    assert (status, body["error"]) == (404, "execution none does not exist")


async def test_without_a_stream_the_current_events_are_returned(responder: ResponderServer) -> None:
    """If a proxy buffers streams."""
    await begin(responder)
    await responder.append("r1", Planned(at=now(), plan=plan()))
    status, body = await responder.get(ONE + "?after=0", headers={"Accept": "application/json"})
    assert (status, [event["type"] for event in body.pop("events")]) == (200, ["planned"])
    assert body == {"execution": "r1", "state": "running", "outcome": None, "checks": []}


async def test_all_rollbacks_in_one_stream(responder: ResponderServer) -> None:
    await begin(responder, "old", "other")
    await responder.append(
        "old", StepFailed(at=now(), reason="x"), Closed(at=now(), outcome="failed", by="r", reason="")
    )
    await begin(responder)
    async with reading(responder, "/api/v1/events") as reader:
        (first,) = await reader.take(1)
        assert (first["data"]["execution"], first["data"]["seq"]) == ("r1", 0), "closed rollbacks are not sent again"
        await begin(responder, "r2", "frontend")
        await responder.append(
            "r1", StepFailed(at=now(), reason="x"), Closed(at=now(), outcome="failed", by="r", reason="")
        )
        more = await reader.take(3)
        assert {(event["data"]["execution"], event["event"]) for event in more} == {
            ("r2", "accepted"),
            ("r1", "step_failed"),
            ("r1", "closed"),
        }


async def test_a_resumed_stream_of_all_rollbacks_misses_no_end(responder: ResponderServer) -> None:
    await begin(responder)
    async with reading(responder, "/api/v1/events") as reader:
        (first,) = await reader.take(1)
    await responder.append(
        "r1", StepFailed(at=now(), reason="x"), Closed(at=now(), outcome="failed", by="r", reason="")
    )
    async with reading(responder, "/api/v1/events", Last_Event_ID=first["id"]) as reader:
        assert [event["event"] for event in await reader.take(3)] == ["accepted", "step_failed", "closed"]
    later = (datetime.fromisoformat(first["id"]) + timedelta(minutes=1)).isoformat()
    await begin(responder, "r2", "frontend")
    async with reading(responder, "/api/v1/events", Last_Event_ID=later) as reader:
        await begin(responder, "r3", "third", at=now() + timedelta(minutes=2))
        assert [event["data"]["execution"] for event in await reader.take(1)] == ["r3"]


async def test_the_number_of_streams_is_limited_and_a_slot_becomes_free(responder: ResponderServer) -> None:
    await begin(responder)
    async with contextlib.AsyncExitStack() as stack:
        readers = [await stack.enter_async_context(reading(responder, ONE)) for _ in range(3)]
        for reader in readers:
            await reader.take(1)
        status, body = await responder.get(ONE)
        assert (status, body["error"]) == (503, "too many streams: poll with Accept: application/json")
        status, body = await responder.get(ONE, headers={"Accept": "application/json"})
        assert (status, len(body["events"])) == (200, 1)
        readers[0].response.close()
        async with asyncio.timeout(60):
            while (await responder.client.get(ONE, timeout=aiohttp.ClientTimeout(total=60))).status == 503:
                await asyncio.sleep(0.05)


async def test_it_needs_scope_read_and_ends_with_the_token(guarded_responder: ResponderServer) -> None:
    await begin(guarded_responder)
    for path in (ONE, "/api/v1/events"):
        assert (await guarded_responder.get(path))[0] == 401
        alone = {"Authorization": f"Bearer {SECRETS['operate']}"}
        assert (await guarded_responder.get(path, headers=alone))[0] == 403
    async with reading(guarded_responder, ONE, Authorization=f"Bearer {SECRETS['read']}") as reader:
        await reader.take(1)
        guarded_responder.access = Access(
            WebSettings(tokens=(Token(name="new", scopes=("read",), token=SecretStr("n" * 16)),))
        )
        assert [event async for event in reader] == []


# --- the broadcast with its limits ---
@asynccontextmanager
async def serving(
    journal: Database, worker: Any, **limits: Any
) -> AsyncIterator[tuple[TestServer, ExecutionBroadcast]]:
    broadcast = ExecutionBroadcast(journal, poll=0.2)
    events = Events(broadcast, worker, **limits)
    access = Access(WebSettings())
    app = routes(lambda: access, [events])
    async with TestServer(app) as server:
        yield server, broadcast


class IdleWorker:
    """A worker that executes nothing."""

    current: tuple[Any, ...] = ()

    def findings(self, execution_id: str) -> list[Any]:
        return list(self.current)


async def test_heartbeats_keep_an_idle_stream_open(journal: Database) -> None:
    await journal.transaction(rollbacks.accept, "r1", accepted(alerts=()))
    async with serving(journal, IdleWorker(), heartbeat=0.05) as (server, _), aiohttp.ClientSession() as session:
        async with session.get(server.make_url(ONE)) as response:
            reader = Reader(response)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.3):
                    async for _ in reader:
                        pass
        assert reader.comments.count(": heartbeat") >= 3


async def test_a_stream_continues_after_a_bug(journal: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    on_error, real = list[str](), executions.heads

    async def heads(*args: Any) -> Any:
        if len(on_error) < 2:
            raise ZeroDivisionError("a bug")
        return await real(*args)

    monkeypatch.setattr(executions, "heads", heads)
    await journal.transaction(rollbacks.accept, "r1", accepted(alerts=()))
    with (broadcast := ExecutionBroadcast(journal, poll=0.02, on_error=on_error.append)).subscribe("r1") as watcher:
        watcher.wake.clear()
        assert await watcher.changed(10)
    assert on_error == ["progress"] * 2
    broadcast.close()


async def test_a_slow_reader_is_dropped_and_others_are_served(journal: Database) -> None:
    """Events are not buffered: unread ones stay in the journal."""
    long = "x" * 12_000
    event = accepted(alerts=(), reason=long)
    await journal.transaction(rollbacks.accept, "r1", event)
    execution = await journal.read(executions.load, "r1")
    steps = [change(str(n), str(n + 1)) for n in range(400)]
    execution = await journal.transaction(rollbacks.append, execution, [Planned(at=now(), plan=plan(*steps))], None)
    many = []
    for n in range(400):
        many += [StepStarted(at=now(), step=n, title=long), StepCompleted(at=now(), step=n, changed=True, note=long)]
    await journal.transaction(rollbacks.append, execution, many, None)
    async with serving(journal, IdleWorker(), write_within=3) as (server, broadcast):
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect(("127.0.0.1", server.port))
            slow.sendall(f"GET {ONE} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode())
            slow.setblocking(False)
            async with aiohttp.ClientSession() as session, session.get(server.make_url(ONE)) as response:
                taken = await Reader(response).take(802)
                assert [int(received["id"]) for received in taken] == list(range(802))
            async with asyncio.timeout(60):
                while broadcast._subscriptions:
                    await asyncio.sleep(0.05)
            with contextlib.suppress(ConnectionError):
                got = 0
                async with asyncio.timeout(60):
                    while chunk := await asyncio.get_running_loop().sock_recv(slow, 1 << 20):
                        got += len(chunk)
                assert got < 8_000_000, "events no longer fit into its buffer"


async def test_streams_end_at_once_at_shutdown(journal: Database) -> None:
    await journal.transaction(rollbacks.accept, "r1", accepted(alerts=()))
    async with contextlib.AsyncExitStack() as stack:
        server, _ = await stack.enter_async_context(serving(journal, IdleWorker()))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        response = await session.get(server.make_url(ONE))
        reader = Reader(response)
        await reader.take(1)
        loop = asyncio.get_running_loop()
        began = loop.time()
        closing = asyncio.create_task(server.close())
        assert [event async for event in reader] == []
        await closing
        assert loop.time() - began < 30


async def test_findings_of_checks_are_sent_between_events(journal: Database) -> None:
    worker = IdleWorker()
    await journal.transaction(rollbacks.accept, "r1", accepted(alerts=()))
    execution = await journal.read(executions.load, "r1")
    begun = [Planned(at=now(), plan=plan()), StepStarted(at=now(), step=0, title="one")]
    await journal.transaction(rollbacks.append, execution, begun, None)
    async with (
        serving(journal, worker, look=0.05) as (server, _),
        aiohttp.ClientSession() as session,
        session.get(server.make_url(ONE)) as response,
    ):
        reader = Reader(response)
        await reader.take(3)
        for reason in ("0 of 2", "1 of 2"):
            worker.current = (Finding(holds=False, reason=reason),)
            (event,) = await reader.take(1)
            assert (event["event"], event.get("id")) == ("checks", None), (
                "it is not an event: no client resumes after it"
            )
            assert event["data"] == {"execution": "r1", "findings": [{"holds": False, "reason": reason}]}


async def test_an_unavailable_journal_ends_the_stream_and_is_reported_on_resume(
    responder: ResponderServer,
) -> None:
    await begin(responder)
    async with reading(responder, ONE) as reader:
        await reader.take(1)
        with sqlite3.connect(responder.file) as connection:
            connection.execute("ALTER TABLE events RENAME TO lost")
        connection.close()
        responder.broadcast._wake({"r1": 5})
        assert [event async for event in reader] == []
    status, body = await responder.get(ONE)
    assert (status, "the journal cannot be used" in body["error"]) == (503, True)


async def test_a_replica_streams_events_of_another(postgres_server: Any) -> None:
    """One replica executes; readers of the other one receive all its events."""
    state = await postgres_server.database("events_on_two")
    writer, follower = await open_journal(state), await open_journal(state)
    event = accepted(alerts=(), at=now(), received_at=now())
    execution = await writer.transaction(rollbacks.accept, "r1", event)
    await writer.transaction(executions.claim, "w1", now(), concurrent=1, running=())
    try:
        async with (
            serving(follower, IdleWorker()) as (server, _),
            aiohttp.ClientSession() as session,
            session.get(server.make_url(ONE)) as response,
            session.get(server.make_url("/api/v1/events")) as everything,
        ):
            reader, all_of_them = Reader(response), Reader(everything)
            await reader.take(1)
            await all_of_them.take(1)
            events = [Planned(at=now(), plan=plan()), StepStarted(at=now(), step=0, title="one")]
            execution = await writer.transaction(rollbacks.append, execution, events, "w1")
            assert [e["event"] for e in await reader.take(2)] == ["planned", "step_started"]
            assert [e["event"] for e in await all_of_them.take(2)] == ["planned", "step_started"]
            ended = [StepFailed(at=now(), step=0, reason="x"), Closed(at=now(), outcome="failed", by="r", reason="")]
            await writer.transaction(rollbacks.append, execution, ended, "w1")
            assert [e["event"] async for e in reader] == ["step_failed", "closed"]
            assert [e["event"] for e in await all_of_them.take(2)] == ["step_failed", "closed"]
    finally:
        await writer.close()
        await follower.close()


async def test_many_watchers_do_not_slow_a_rollback(responder: ResponderServer) -> None:
    """They read from the journal one at a time, and only new events."""
    await begin(responder)
    reads = 0
    read = responder.journal.read

    async def counted(*args: Any, **how: Any) -> Any:
        nonlocal reads
        reads += 1
        return await read(*args, **how)

    responder.journal.read = counted  # type: ignore[method-assign]
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(3):
            await (await stack.enter_async_context(reading(responder, ONE))).take(1)
        reads = 0
        await asyncio.sleep(1.0)
        assert reads <= 7, "one read in 0.2 s for all of them, while nothing happens"

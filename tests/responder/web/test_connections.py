"""Connections that say nothing, or no HTTP, neither hold up the health check nor fill the log."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
from collections import Counter
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from responder.web import connections
from responder.web.server import listen
from responder.web_settings import Web
from tests.parts import free_port

ENDED: Counter[str] = Counter()
READING: Counter[str] = Counter()


async def healthy(request: web.Request) -> web.Response:
    return web.Response(text="ok")


async def reads(request: web.Request) -> web.Response:
    READING.update([request.path])
    return web.Response(body=await request.read())


@pytest.fixture
async def port() -> AsyncIterator[int]:
    ENDED.clear()
    READING.clear()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    app = web.Application()
    app.router.add_get("/-/healthy", healthy)
    app.router.add_post("/reads", reads)
    number = free_port()
    runner = await listen(app, Web(listen=f"127.0.0.1:{number}"), lambda cause: ENDED.update([cause]))
    yield number
    await runner.cleanup()
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


async def asks(port: int) -> str:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/-/healthy") as response:
        return await response.text()


@pytest.mark.parametrize("said", [b"", b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n"])
async def test_silent_connections_make_way(port: int, said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST_OF_ONE_PEER", 50)
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(200)]
    for _, writer in silent:
        writer.write(said)
    assert await asyncio.wait_for(asks(port), 5) == "ok"
    assert ENDED == {"too_many": 151}
    for _, writer in silent:
        writer.transport.abort()
    await asyncio.sleep(0)


@pytest.mark.parametrize("addresses", [1, 100])
async def test_health_is_answered_under_two_thousand_silent_connections(port: int, addresses: int) -> None:
    silent = []
    for n in range(2000):
        _, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(f"127.0.1.{1 + n % addresses}", 0))
        silent.append(writer)
    assert await asyncio.wait_for(asks(port), 30) == "ok"
    most = connections.MOST_OF_ONE_PEER if addresses == 1 else connections.MOST
    assert ENDED["too_many"] >= 2000 - most
    for writer in silent:
        writer.transport.abort()
    await asyncio.sleep(0)


@pytest.mark.parametrize("said", [b"", b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n"])
async def test_the_head_of_a_request_has_a_deadline(port: int, said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEADERS_WITHIN", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(said)
    with contextlib.suppress(ConnectionResetError):
        assert await asyncio.wait_for(reader.read(), 10) == b""
    assert ENDED == {"headers": 1}
    writer.transport.abort()


async def test_what_is_no_http_is_counted_and_logged_once(port: int, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nBad Header\x00: x\r\n\r\n")
        assert (await asyncio.wait_for(reader.read(), 10)).startswith(b"HTTP/1.0 400")
        writer.close()
        await writer.wait_closed()
    assert ENDED == {"malformed": 20}
    told = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [(record.getMessage(), bool(record.exc_info)) for record in told] == [("connections ended", False)]


@pytest.mark.parametrize("told", [b"Content-Length: 99\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n9\r\n{"])
async def test_who_hangs_up_in_the_middle_is_counted_and_logged_without_a_traceback(
    told: bytes, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with asyncio.timeout(60):
        for n in range(20):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST /reads HTTP/1.1\r\nHost: x\r\n" + told)
            while READING["/reads"] <= n:
                await asyncio.sleep(0.01)
            writer.transport.abort()
        while ENDED["hang_up"] < 20:
            await asyncio.sleep(0.01)
    assert ENDED == {"hang_up": 20}
    told_of = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [(record.getMessage(), bool(record.exc_info)) for record in told_of] == [("connections ended", False)]


def test_the_soft_limit_of_descriptors_is_raised() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, before[1]), before[1]))
    try:
        connections.allow_many_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)

"""Connections without a request or without HTTP delay neither the health check nor each other."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from foundation import connections
from foundation.connections import Site, under_way
from tests.certificates import Authority
from tests.parts import free_port

HALF = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n"


class Server:
    """A listener, the causes of ended connections, and requests that it answers only on command."""

    def __init__(self, port: int, trusted: ssl.SSLContext | None) -> None:
        self.port, self.trusted = port, trusted
        self.url = f"http{'s' if trusted else ''}://127.0.0.1:{port}"
        self.ended: Counter[str] = Counter()
        self.hung, self.release = 0, asyncio.Event()
        self.stop: Callable[[], Awaitable[None]]

    async def healthy(self, request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def hang(self, request: web.Request) -> web.Response:
        self.hung += 1
        await self.release.wait()
        return web.Response(text="ok")

    async def get(self, path: str = "/-/healthy") -> tuple[int, str]:
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}{path}", ssl=self.trusted or True) as it:
            return it.status, await it.text()

    async def has(self, **ended: int) -> None:
        """Waits until it has ended that many connections for these causes."""
        while self.ended != ended:
            await asyncio.sleep(0.01)


Serve = Callable[..., Awaitable[Server]]


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    async with contextlib.AsyncExitStack() as leaving:

        async def served(*, tls: bool = False, room_for: int = 0) -> Server:
            context, trusted = None, None
            if tls:
                authority = Authority(tmp_path)
                context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
                context.load_cert_chain(*authority.issue("server", "127.0.0.1"))
                trusted = ssl.create_default_context(cafile=authority.ca_file)
            server = Server(free_port(), trusted)
            app = web.Application(middlewares=[under_way])
            app.add_routes([web.get("/-/healthy", server.healthy), web.get("/hang", server.hang)])
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            leaving.push_async_callback(runner.cleanup)
            leaving.callback(server.release.set)
            server.stop, count = runner.cleanup, server.ended.update
            await Site(
                runner, "127.0.0.1", server.port, context, lambda cause: count([cause]), lambda: room_for
            ).start()
            return server

        yield served


async def connect(port: int, data: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    return reader, writer


async def closed(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""


@pytest.mark.parametrize("data", [b"", HALF])
@pytest.mark.parametrize("tls", [False, True])
async def test_idle_connections_make_room(
    serve: Serve, tls: bool, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MOST_OF_ONE_PEER", 50)
    server = await serve(tls=tls)
    silent = [await connect(server.port, b"" if tls else data) for _ in range(200)]
    assert await server.get() == (200, "ok")
    assert server.ended["too_many"] >= 150
    for _, writer in silent:
        writer.transport.abort()


@pytest.fixture
def many_files() -> Iterator[None]:
    """Descriptors for a few thousand connections of the test itself."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    connections.allow_many_files()
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("addresses", [1, 100])
async def test_health_is_answered_under_two_thousand_silent_connections(
    serve: Serve, many_files: None, addresses: int
) -> None:
    server, silent = await serve(), []
    for n in range(2000):
        here = (f"127.0.1.{1 + n % addresses}", 0)
        silent.append((await asyncio.open_connection("127.0.0.1", server.port, local_addr=here))[1])
    assert await server.get() == (200, "ok")
    most = connections.MOST_OF_ONE_PEER if addresses == 1 else connections.MOST
    assert server.ended["too_many"] >= 2000 - most
    for writer in silent:
        writer.transport.abort()


async def test_known_clients_have_room_beyond_the_limits(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST_OF_ONE_PEER", 50)
    server = await serve(room_for=100)
    silent = [await connect(server.port) for _ in range(150)]
    await server.get()
    assert server.ended == {"too_many": 1}
    for _, writer in silent:
        writer.transport.abort()


async def test_a_client_with_an_earlier_request_outlives_silent_connections(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MOST_OF_ONE_PEER", 5)
    server = await serve()
    scraper, its = await connect(server.port, HALF + b"\r\n")
    assert await scraper.readline() == b"HTTP/1.1 200 OK\r\n"
    silent = [await connect(server.port) for _ in range(50)]
    await server.has(too_many=46)
    its.write(HALF + b"\r\n")
    await scraper.readuntil(b"HTTP/1.1 200 OK\r\n")
    for _, writer in (*silent, (scraper, its)):
        writer.transport.abort()


@pytest.mark.parametrize("data", [b"", HALF])
async def test_the_head_of_a_request_has_a_deadline(serve: Serve, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEADERS_WITHIN", 0.05)
    server = await serve()
    reader, writer = await connect(server.port, data)
    await closed(reader)
    assert server.ended == {"headers": 1}
    writer.transport.abort()


async def test_health_is_answered_while_all_connections_carry_a_request(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MOST_OF_ONE_PEER", 5)
    server = await serve()
    busy = [asyncio.create_task(server.get("/hang")) for _ in range(5)]
    while server.hung < 5:
        await asyncio.sleep(0.01)
    silent = [await connect(server.port) for _ in range(connections.RESERVED + 5)]
    assert await server.get() == (200, "ok")
    status, body = await server.get("/hang")
    assert status == 503
    assert "only health checks are answered now" in body
    assert server.hung == 5
    server.release.set()
    assert [await task for task in busy] == [(200, "ok")] * 5
    assert await server.get("/hang") == (200, "ok")
    for _, writer in silent:
        writer.transport.abort()


# --- TLS --------------------------------------------------------------------------------------------------------------
async def test_a_handshake_has_a_deadline(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server = await serve(tls=True)
    monkeypatch.setattr(connections, "HEADERS_WITHIN", 0.05)
    reader, writer = await connect(server.port)
    await closed(reader)
    await server.has(tls=1)
    writer.transport.abort()


async def test_a_failed_handshake_is_counted(serve: Serve) -> None:
    server = await serve(tls=True)
    for n in range(1, 4):
        reader, writer = await connect(server.port, HALF + b"\r\n")
        with contextlib.suppress(ConnectionResetError):
            await reader.read()
        await server.has(tls=n)
        writer.close()
    assert await server.get() == (200, "ok")


async def test_a_port_probe_is_not_counted(serve: Serve) -> None:
    server = await serve(tls=True)
    for _ in range(3):
        _, writer = await connect(server.port)
        writer.close()
        await writer.wait_closed()
    assert await server.get() == (200, "ok")
    assert server.ended == {}


async def test_a_request_that_arrives_with_the_end_of_the_handshake(serve: Serve) -> None:
    server = await serve(tls=True)
    assert server.trusted is not None
    reader, writer = await connect(server.port)
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = server.trusted.wrap_bio(received, sent, server_hostname="127.0.0.1")
    while True:
        try:
            client.do_handshake()
            break
        except ssl.SSLWantReadError:
            writer.write(sent.read())
            received.write(await reader.read(65536))
    client.write(HALF + b"\r\n")
    writer.write(sent.read())  # in one segment: the end of the handshake, and the request
    answer = b""
    while b"\r\n\r\nok" not in answer:
        try:
            answer += client.read()
        except ssl.SSLWantReadError:
            received.write(await reader.read(65536))
    assert answer.startswith(b"HTTP/1.1 200 OK")
    writer.transport.abort()


async def test_pending_handshakes_do_not_delay_the_shutdown(serve: Serve) -> None:
    server = await serve(tls=True)
    reader, writer = await connect(server.port)
    assert await server.get() == (200, "ok")  # so that the earlier one is accepted
    await server.stop()
    await closed(reader)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    writer.transport.abort()


def test_the_soft_limit_of_descriptors_is_raised() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, before[1]), before[1]))
    try:
        connections.allow_many_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)

"""Connection errors of unknown clients are counted, and logged once a minute."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import socket
import ssl
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
import yaml
from aiohttp import web

from foundation.connections import allow_many_files
from responder.web.access.settings import WebSettings
from responder.web.http.server import listen
from tests.certificates import Authority
from tests.parts import Process, free_port

MALFORMED = b"GET / HTTP/1.1\r\nBad Header\x00: x\r\n\r\n"


@pytest.mark.parametrize("tls", [False, True])
async def test_a_request_that_is_not_http_is_counted_and_logged_once(
    tls: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An invalid request head over TCP; with TLS, anything but a handshake."""
    port, ended = free_port(), Counter[str]()
    settings = {"listen": f"127.0.0.1:{port}"}
    if tls:
        cert, key = Authority(tmp_path).issue("server", "127.0.0.1")
        (tmp_path / "web.yml").write_text(
            yaml.safe_dump({"tls_server_config": {"cert_file": str(cert), "key_file": str(key)}})
        )
        settings["config_file"] = str(tmp_path / "web.yml")
    runner = await listen(web.Application(), WebSettings.model_validate(settings), lambda cause: ended.update([cause]))
    for n in range(1, 21):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(MALFORMED)
        with contextlib.suppress(ConnectionResetError):
            await reader.read()
        while ended.total() < n:
            await asyncio.sleep(0.01)
        writer.close()
        with contextlib.suppress(ConnectionResetError):
            await writer.wait_closed()
    await runner.cleanup()
    assert ended == {"tls" if tls else "malformed": 20}
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [(record.getMessage(), bool(record.exc_info)) for record in warnings] == [("connections ended", False)]


@pytest.mark.parametrize("head", [b"Content-Length: 99\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n9\r\n{"])
async def test_a_disconnect_during_a_request_is_counted_and_logged_without_a_traceback(
    head: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    port, ended, reading = free_port(), Counter[str](), Counter[str]()

    async def reads(request: web.Request) -> web.Response:
        reading.update([request.path])
        return web.Response(body=await request.read())

    app = web.Application()
    app.router.add_post("/reads", reads)
    runner = await listen(app, WebSettings(listen=f"127.0.0.1:{port}"), lambda cause: ended.update([cause]))
    async with asyncio.timeout(60):
        for n in range(20):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST /reads HTTP/1.1\r\nHost: x\r\n" + head)
            while reading["/reads"] <= n:
                await asyncio.sleep(0.01)
            writer.transport.abort()
        while ended["hang_up"] < 20:
            await asyncio.sleep(0.01)
    await runner.cleanup()
    assert ended == {"hang_up": 20}
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [(record.getMessage(), bool(record.exc_info)) for record in warnings] == [("connections ended", False)]


@pytest.fixture
def many_files() -> Iterator[None]:
    """Descriptors for a few thousand connections of the test itself."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    allow_many_files()
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("tls", [False, True])
async def test_a_responder_answers_under_2000_silent_connections(tls: bool, many_files: None, tmp_path: Path) -> None:
    """The real process, with silent connections open during the request."""
    port, authority = free_port(), Authority(tmp_path)
    cert, key = authority.issue("server", "127.0.0.1")
    served = {"tls_server_config": {"cert_file": str(cert), "key_file": str(key)}} if tls else {}
    (tmp_path / "web.yml").write_text(yaml.safe_dump(served))
    config = {
        "state": f"sqlite://{tmp_path}/state.db",
        "prometheus": {"url": "http://127.0.0.1:1"},
        "alertmanager": {"urls": ["http://127.0.0.1:1"]},
        "web": {"listen": f"127.0.0.1:{port}", "config_file": str(tmp_path / "web.yml")},
    }
    (tmp_path / "responder.yml").write_text(yaml.safe_dump(config))
    trusted = ssl.create_default_context(cafile=authority.ca_file) if tls else True

    async def healthy() -> bool:
        try:
            url = f"http{'s' if tls else ''}://127.0.0.1:{port}/-/healthy"
            async with aiohttp.ClientSession() as session, session.get(url, ssl=trusted) as answer:
                return answer.status == 200
        except aiohttp.ClientConnectionError:
            return False

    argv = [sys.executable, "-m", "responder", "serve", "--config", str(tmp_path / "responder.yml")]
    process = await Process.start(argv, log=tmp_path / "log", ready=healthy)
    try:
        with contextlib.ExitStack() as open_until_the_end:
            for _ in range(2000):
                open_until_the_end.enter_context(socket.create_connection(("127.0.0.1", port)))
            assert await healthy()
    finally:
        await process.terminate()
    assert (tmp_path / "log").read_text().count("connections ended cause=too_many") == 1


async def test_a_missing_client_certificate_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    port, ended, authority = free_port(), Counter[str](), Authority(tmp_path)
    cert, key = authority.issue("server", "127.0.0.1")
    wanted = {"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": str(authority.ca_file)}
    served = {"tls_server_config": {"cert_file": str(cert), "key_file": str(key), **wanted}}
    (tmp_path / "web.yml").write_text(yaml.safe_dump(served))
    settings = WebSettings(listen=f"127.0.0.1:{port}", config_file=tmp_path / "web.yml")
    runner = await listen(web.Application(), settings, lambda cause: ended.update([cause]))
    trusted = ssl.create_default_context(cafile=authority.ca_file)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusted)
    with contextlib.suppress(ssl.SSLError, ConnectionResetError):
        await reader.read()
    while not ended:
        await asyncio.sleep(0.01)
    writer.close()
    with contextlib.suppress(ssl.SSLError, ConnectionResetError):
        await writer.wait_closed()
    await runner.cleanup()
    assert ended == {"tls": 1}
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
        "connections ended"
    ]

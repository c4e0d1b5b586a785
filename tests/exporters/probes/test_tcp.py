from __future__ import annotations

import asyncio
from typing import Any

import pytest


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 mail ")
    await writer.drain()
    if await reader.readline():
        writer.write(b"READY\r\n")
        await writer.drain()


async def test_tcp_connects(ask: Any, talk: Any) -> None:
    result, series = await ask(type="tcp", address=f"127.0.0.1:{await talk(greet)}")
    assert result.success
    assert series["probe_tcp_duration_seconds{connect}"] > 0


async def test_text_is_sent_and_the_answer_matched(ask: Any, talk: Any) -> None:
    port = await talk(greet)
    result, _ = await ask(type="tcp", address=f"localhost:{port}", send="HELO\r\n", answer_matches="^220 .*READY")
    assert result.success, result.why


async def test_a_wrong_answer(ask: Any, talk: Any) -> None:
    async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"go away\r\n")
        await writer.drain()

    result, _ = await ask(type="tcp", address=f"127.0.0.1:{await talk(rude)}", answer_matches="^220")
    assert (result.reason, "closed the connection after 9 bytes" in result.why) == ("answer", True)


async def test_endless_output_is_cut_off(ask: Any, talk: Any) -> None:
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    result, _ = await ask(type="tcp", address=f"127.0.0.1:{await talk(flood)}", answer_matches="never")
    assert (result.reason, "too long" in result.why) == ("answer", True)


async def test_refused(ask: Any, port: int) -> None:
    result, _ = await ask(type="tcp", address=f"127.0.0.1:{port}")
    assert result.reason == "connect"


async def test_an_unknown_host_fails(ask: Any) -> None:
    result, _ = await ask(type="tcp", address="no-such-host.invalid:80")
    assert result.reason == "resolve"


@pytest.mark.parametrize("host", ["x" * 70 + ".example", "a..example", "a\0.example"])
async def test_an_invalid_host_name_fails(ask: Any, host: str) -> None:
    result, _ = await ask(type="tcp", address=f"{host}:80")
    assert result.reason == "resolve"
    assert " has no address: " in result.why


async def test_a_silent_peer_is_a_timeout(ask: Any, talk: Any) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    address = f"127.0.0.1:{await talk(silent)}"
    result, _ = await ask(type="tcp", address=address, answer_matches="x", timeout="100ms")
    assert result.reason == "timeout"


async def test_tls(ask: Any, talk: Any, certificates: Any, server_tls: Any) -> None:
    files = certificates()
    address = f"127.0.0.1:{await talk(greet, tls=server_tls(files))}"
    result, series = await ask(type="tcp", address=address, tls={"ca_file": str(files[0])}, answer_matches="220")
    assert result.success, result.why
    assert series["probe_tcp_duration_seconds{tls}"] > 0
    assert "probe_ssl_earliest_cert_expiry" in series
    result, _ = await ask(type="tcp", address=address, tls={})
    assert result.reason == "tls"


async def test_ipv6(ask: Any) -> None:
    server = await asyncio.start_server(greet, "::1", 0)
    async with server:
        result, _ = await ask(type="tcp", address=f"[::1]:{server.sockets[0].getsockname()[1]}")
    assert result.success, result.why

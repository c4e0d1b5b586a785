"""Servers that answer, fail, hang, refuse, break off, send wrong headers, and redirect."""

from __future__ import annotations

import asyncio
import gzip
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from exporters.errors import Unable
from tests.exporters.not_stalled import run_not_stalled

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def http(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = "".join(f"{header}\r\n" for header in headers)
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode() + body


async def test_answers(ask: Any, answer: Any) -> None:
    result, series = await ask(type="http_response", url=await answer(OK))
    assert result.success, result.why
    assert series["probe_http_status_code"] == 200
    assert series["probe_http_body_bytes"] == 2
    assert series["probe_http_ssl"] == 0
    phases = [
        series[f"probe_http_duration_seconds{{{p}}}"] for p in ("resolve", "connect", "tls", "processing", "transfer")
    ]
    assert phases[0] == phases[2] == 0
    assert min(phases[1], phases[3], phases[4]) > 0
    assert sum(phases) <= series["probe_duration_seconds"]


async def test_the_final_response_counts(ask: Any, answer: Any) -> None:
    url = await answer(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK)
    result, series = await ask(type="http_response", url=url)
    assert result.success, result.why
    assert series["probe_http_status_code"] == 200


async def test_a_response_to_head_has_no_body(ask: Any, answer: Any) -> None:
    url = await answer(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", hang=True)
    result, series = await ask(type="http_response", url=url, method="HEAD")
    assert result.success, result.why
    assert series["probe_http_body_bytes"] == 0


async def test_every_address_of_a_name_is_tried(
    ask: Any, answer: Any, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = URL(await answer(OK))

    async def getaddrinfo(*_: object, **__: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", number)) for number in (port, url.port)]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    result, _ = await ask(type="http_response", url=str(url.with_host("shop.example")))
    assert result.success, result.why


async def test_name_resolution_is_measured(ask: Any, answer: Any) -> None:
    url = (await answer(OK)).replace("127.0.0.1", "localhost")
    result, series = await ask(type="http_response", url=url)
    assert result.success, result.why
    assert series["probe_http_duration_seconds{resolve}"] > 0


@pytest.mark.parametrize(
    ("status", "expected", "ok"),
    [
        ("500 Oops", "2xx", False),
        ("204 Empty", "2xx", True),
        ("204 Empty", 200, False),
        ("404 Gone", ["2xx", 404], True),
        ("302 There", "2xx", False),
        ("302 There", 302, True),
    ],
)
async def test_status(ask: Any, answer: Any, status: str, expected: object, ok: bool) -> None:
    url = await answer(http(b"", status, "Location: /elsewhere"))
    result, series = await ask(type="http_response", url=url, expected_status=expected)
    assert (result.success, result.reason) == (ok, "" if ok else "status")
    assert series["probe_http_status_code"] == int(status[:3])


@pytest.mark.parametrize(
    ("fields", "body", "reason"),
    [
        ({"body_matches": "o+k"}, b"it is ook", ""),
        ({"body_matches": "^ok$"}, b"it is ook", "regex"),
        ({"body_matches_not": "error"}, b"fine", ""),
        ({"body_matches_not": "error"}, b"an error", "regex"),
        ({"body_matches": "(a*)*b"}, b"a" * 100_000, "regex"),
        ({"body_matches": "\xe9"}, b"\xff\xfe caf\xc3\xa9", ""),
        ({"json_equals": {"status": "ok", "db.up": True}}, b'{"status": "ok", "db": {"up": true}}', ""),
        ({"json_equals": {"db.up": True}}, b'{"db": {"up": 1}}', "json"),
        ({"json_equals": {"status": "ok"}}, b'{"status": "down"}', "json"),
        ({"json_equals": {"status": "ok"}}, b"{}", "json"),
        ({"json_equals": {"status": "ok"}}, b"<html>", "json"),
        ({"json_equals": {"status": "ok"}}, b"[" * 100_000, "json"),
        ({"body_limit_bytes": 10}, b"x" * 10, ""),
        ({"body_limit_bytes": 10}, b"x" * 11, "body_limit"),
        ({"max_latency": "4s"}, b"", ""),
    ],
)
async def test_body(ask: Any, answer: Any, fields: dict[str, Any], body: bytes, reason: str) -> None:
    result, _ = await ask(type="http_response", url=await answer(http(body)), **fields)
    assert result.reason == reason, result.why


async def test_a_compressed_body_is_limited_by_its_unpacked_size(ask: Any, answer: Any) -> None:
    bomb = gzip.compress(b"\0" * 20_000_000)
    url = await answer(http(bomb, "200 OK", "Content-Encoding: gzip"))
    result, _ = await ask(type="http_response", url=url)
    assert result.reason == "body_limit"


@pytest.mark.parametrize(
    "wrong",
    [
        http(b"x" * 99, "503 Service Unavailable"),
        http(b"x", "503 Service Unavailable").replace(b"Content-Length: 1", b"Content-Length: 9"),
        http(b"<html>", "503 Service Unavailable", "Content-Encoding: gzip"),
    ],
    ids=["too long", "broken off", "not what it says"],
)
async def test_a_wrong_status_takes_precedence_over_the_body(ask: Any, answer: Any, wrong: bytes) -> None:
    result, _ = await ask(type="http_response", url=await answer(wrong), body_limit_bytes=10)
    assert (result.reason, result.why) == ("status", "status is 503, expected 2xx")


async def test_an_endless_body_is_cut_off(ask: Any, talk: Any) -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    result, _ = await ask(type="http_response", url=f"http://127.0.0.1:{await talk(endless)}/")
    assert result.reason == "body_limit"


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ((), "timeout"),
        ((b"HTTP/1.1 200 OK\r\n",), "timeout"),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nfew",), "timeout"),
    ],
)
async def test_a_hanging_server_is_a_timeout(ask: Any, answer: Any, parts: tuple[bytes, ...], reason: str) -> None:
    result, series = await ask(type="http_response", url=await answer(*parts, hang=True), timeout="200ms")
    assert result.reason == reason
    assert ("probe_http_status_code" in series) == (b"few" in b"".join(parts))


@pytest.mark.parametrize(
    "parts",
    [
        (b"RESET",),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nRESET",),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",),
        (b"SSH-2.0-OpenSSH\r\n\r\n",),
        (http(b"not gzip", "200 OK", "Content-Encoding: gzip"),),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000,),
    ],
)
async def test_a_broken_exchange_fails(ask: Any, answer: Any, parts: tuple[bytes, ...]) -> None:
    result, _ = await ask(type="http_response", url=await answer(*parts))
    assert result.reason == "protocol", result.why


async def test_refused(ask: Any, port: int) -> None:
    result, series = await ask(type="http_response", url=f"http://127.0.0.1:{port}/")
    assert result.reason == "connect"
    assert "probe_http_status_code" not in series


async def test_an_unknown_host_fails(ask: Any) -> None:
    result, _ = await ask(type="http_response", url="http://no-such-host.invalid/")
    assert result.reason == "resolve"


async def test_the_request_is_sent_as_configured(ask: Any, answer: Any) -> None:
    seen: list[bytes] = []
    result, _ = await ask(
        type="http_response",
        url=await answer(OK, seen=seen) + "deep?token=s3cret-query",
        method="POST",
        body='{"a": 1}',
        headers={"X-Key": "s3cret-key", "Host": "shop.example"},
        basic_auth={"username": "u", "password": "s3cret-pw"},
    )
    assert result.success, result.why
    request = seen[0].decode()
    assert request.startswith("POST /deep?token=s3cret-query HTTP/1.1")
    assert "X-Key: s3cret-key" in request
    assert "Host: shop.example" in request
    assert "Authorization: Basic dTpzM2NyZXQtcHc=" in request
    assert "s3cret" not in repr(result) + repr(result.log)


async def test_redirects_are_followed_when_requested(ask: Any, answer: Any) -> None:
    seen: list[bytes] = []
    end = await answer(OK, seen=seen)
    start = await answer(http(b"", "302 There", f"Location: {end}"))
    result, series = await ask(type="http_response", url=start, follow_redirects=True, headers={"X-Key": "s3cret-key"})
    assert result.success, result.why
    assert series["probe_http_redirects"] == 1
    assert b"X-Key" not in seen[0], "another origin must not get our headers"


@pytest.mark.parametrize(
    ("location", "why"), [("/again", "more than 10"), ("ftp://h/", "leads from http to ftp"), ("http://[", "not a URL")]
)
async def test_invalid_redirects_fail(ask: Any, answer: Any, location: str, why: str) -> None:
    url = await answer(http(b"", "302 There", f"Location: {location}"))
    result, _ = await ask(type="http_response", url=url, follow_redirects=True)
    assert result.reason == "redirect"
    assert why in result.why


async def test_tls(ask: Any, answer: Any, certificates: Any, server_tls: Any) -> None:
    files = certificates()
    url = await answer(OK, tls=server_tls(files))
    result, series = await ask(
        type="http_response", url=url, tls={"ca_file": str(files[0])}, certificate_valid_for="1d"
    )
    assert result.success, result.why
    assert series["probe_http_ssl"] == 1
    assert series["probe_http_duration_seconds{tls}"] > 0
    assert series["probe_http_duration_seconds{connect}"] > 0
    assert series["probe_ssl_earliest_cert_expiry"] == pytest.approx(result.at + 30 * 86400, abs=600)


async def test_an_untrusted_certificate_fails(ask: Any, answer: Any, certificates: Any, server_tls: Any) -> None:
    url = await answer(OK, tls=server_tls(certificates()))
    result, _ = await ask(type="http_response", url=url)
    assert result.reason == "tls"
    result, series = await ask(type="http_response", url=url, tls={"insecure_skip_verify": True})
    assert result.success, result.why
    assert "probe_ssl_earliest_cert_expiry" in series


async def test_a_certificate_file_that_is_gone_is_not_the_target_s_fault(
    make: Any, connections: Any, certificates: Any, answer: Any, server_tls: Any, tmp_path: Path
) -> None:
    files = certificates()
    shutil.copy(files[0], ca_file := tmp_path / "ca.pem")
    check = make(type="http_response", url=await answer(OK, tls=server_tls(files)), tls={"ca_file": str(ca_file)})
    ca_file.unlink()
    with pytest.raises(Unable, match="certificates of the check cannot be loaded: "):
        await run_not_stalled(check, connections)


async def test_a_certificate_for_another_host_fails(ask: Any, answer: Any, certificates: Any, server_tls: Any) -> None:
    files = certificates("other", host="DNS:other.example")
    url = await answer(OK, tls=server_tls(files))
    result, _ = await ask(type="http_response", url=url, tls={"ca_file": str(files[0])})
    assert result.reason == "tls"
    tls = {"ca_file": str(files[0]), "server_name": "other.example"}
    result, _ = await ask(type="http_response", url=url, tls=tls)
    assert result.success, result.why


async def test_a_certificate_that_expires_soon_fails(ask: Any, answer: Any, certificates: Any, server_tls: Any) -> None:
    files = certificates()
    url = await answer(OK, tls=server_tls(files))
    tls = {"ca_file": str(files[0])}
    result, _ = await ask(type="http_response", url=url, tls=tls, certificate_valid_for="31d")
    assert result.reason == "certificate"


@pytest.mark.parametrize("hang", [True, False])
async def test_a_server_without_tls_fails(ask: Any, talk: Any, hang: bool) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await (asyncio.sleep(60) if hang else reader.read(1))
        writer.write(b"HTTP/1.1 400 plain\r\n\r\n")
        await writer.drain()
        await reader.read()

    url = f"https://127.0.0.1:{await talk(plain)}/"
    result, _ = await ask(type="http_response", url=url, timeout="300ms")
    assert result.reason == ("timeout" if hang else "tls")

"""Servers that answer in odd ways, and what the probe makes of each."""

from __future__ import annotations

import gzip
import zlib
from typing import Any

import pytest

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
TEXT = b"hello " * 100
PACKED = gzip.compress(TEXT)


def response(*headers: str, status: str = "HTTP/1.1 200 OK", body: bytes = b"") -> bytes:
    return "\r\n".join([status, *headers, "", ""]).encode() + body


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n", encoding: str = "identity") -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + end
    return response("Transfer-Encoding: chunked", f"Content-Encoding: {encoding}", body=body)


HEALTHY: dict[str, tuple[bytes, int]] = {
    "interim responses": (response(status="HTTP/1.1 102 Processing") * 50 + OK, 2),
    "chunks": (chunked(b"ok", b"ok"), 4),
    "chunks with a trailer": (chunked(b"ok", end=b"0\r\nX: y\r\n\r\n"), 2),
    "compressed chunks": (chunked(PACKED[:20], PACKED[20:], encoding="gzip"), len(TEXT)),
    "gzip": (response("Content-Encoding: gzip", f"Content-Length: {len(PACKED)}", body=PACKED), len(TEXT)),
    "deflate": (response("Content-Encoding: deflate", body=zlib.compress(TEXT)), len(TEXT)),
    "an unknown encoding": (response("Content-Encoding: x", "Content-Length: 2", body=b"ok"), 2),
    "a body until the end of the connection": (response(body=b"ok"), 2),
    "HTTP/1.0": (response(status="HTTP/1.0 200 OK", body=b"ok"), 2),
    "letters beyond ASCII": (b"HTTP/1.1 200 \xe4\r\nX: \xe4\r\nContent-Length: 2\r\n\r\nok", 2),
    "no content": (response("Content-Length: 5", status="HTTP/1.1 204 No Content"), 0),
}

BROKEN: dict[str, tuple[bytes, str]] = {
    "no response": (b"", "closed the connection without an answer"),
    "half a head": (b"HTTP/1.1 200 OK\r\nX: y", "closed the connection without an answer"),
    "no HTTP": (b"SSH-2.0-OpenSSH_9\r\n", "not HTTP"),
    "HTTP/2": (b"\0\0\x12\4\0\0\0\0\0", "not HTTP"),
    "no status line": (b"hello", "not HTTP"),
    "a null character": (response("X: a\0b", "Content-Length: 0"), "not HTTP"),
    "a long header": (response("X: " + "a" * 9000, "Content-Length: 0"), "not HTTP"),
    "too many headers": (response(*(f"X{number}: y" for number in range(5000))), "not HTTP"),
    "two lengths": (response("Content-Length: 2", "Content-Length: 3", body=b"ok!"), "not HTTP"),
    "length and chunks": (chunked(b"ok").replace(b"\r\n", b"\r\nContent-Length: 2\r\n", 1), "not HTTP"),
    "a negative length": (response("Content-Length: -2"), "not HTTP"),
    "no size of a chunk": (chunked(end=b"zz\r\n"), "not HTTP"),
    "too short a body": (response("Content-Length: 9", body=b"ok"), "the body ended too early"),
    "no last chunk": (chunked(b"ok", end=b""), "the body ended too early"),
    "no gzip": (response("Content-Encoding: gzip", "Content-Length: 2", body=b"ok"), "not encoded as announced"),
}


@pytest.mark.parametrize("name", HEALTHY)
async def test_an_odd_response_counts(ask: Any, answer: Any, name: str) -> None:
    sent, length = HEALTHY[name]
    result, series = await ask(type="http_response", url=await answer(sent))
    assert result.success, result.why
    assert series["probe_http_body_bytes"] == length


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_response_fails(ask: Any, answer: Any, name: str) -> None:
    sent, why = BROKEN[name]
    result, _ = await ask(type="http_response", url=await answer(sent))
    assert result.reason == "protocol"
    assert why in result.why


async def test_a_small_body_that_becomes_large_is_not_read_to_its_end(ask: Any, answer: Any) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    result, _ = await ask(type="http_response", url=await answer(response("Content-Encoding: gzip", body=bomb)))
    assert result.reason == "body_limit"


async def test_a_location_cannot_add_headers(ask: Any, answer: Any) -> None:
    seen: list[bytes] = []
    moved = response("Location: /a%0d%0aX-Evil:%20y b", "Content-Length: 0", status="HTTP/1.1 302 Found")
    await ask(type="http_response", url=await answer(moved, seen=seen), follow_redirects=True)
    assert seen[1].startswith(b"GET /a%0D%0AX-Evil:%20y%20b HTTP/1.1\r\n")
    assert b"\r\nX-Evil" not in seen[1]

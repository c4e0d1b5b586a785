"""A body is read only after authentication, in bounded time and memory; and no text in a request causes a 5xx."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from typing import Any

import pytest

from responder.errors import Invalid
from responder.web.http import bodies
from responder.web.http.bodies import MOST_BYTES, MOST_MEMBERS, unpacked
from tests.responder.examples import LABELS, as_bytes, sent_body
from tests.responder.web.conftest import SECRETS, ResponderServer
from tests.responder.web.test_receiver import ready  # noqa: F401

ALERTS = "/api/v1/alerts"
PACKED = {"Content-Type": "application/json", "Content-Encoding": "gzip"}


# --- compression ---
@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZIP"])
async def test_a_compressed_body_is_read(ready: ResponderServer, encoding: str) -> None:  # noqa: F811
    headers = {**PACKED, "Content-Encoding": encoding}
    status, answer = await ready.post(ALERTS, gzip.compress(as_bytes(sent_body())), headers=headers)
    assert (status, answer["decisions"][0]["result"]) == (202, "allow"), answer["decisions"][0]["reason"]


async def test_every_route_reads_a_compressed_body(responder: ResponderServer) -> None:
    packed = gzip.compress(as_bytes({"service": "backend", "version": "9.9"}))
    assert (await responder.post("/api/v1/deployments", packed, headers=PACKED))[0] == 201


@pytest.mark.parametrize("encoding", ["deflate", "br", "zstd", "gzip, gzip", "identity, gzip", "nonsense"])
async def test_another_encoding_is_a_415(responder: ResponderServer, encoding: str) -> None:
    headers = {**PACKED, "Content-Encoding": encoding}
    status, answer = await responder.post(ALERTS, zlib.compress(b"{}"), headers=headers)
    assert (status, "use gzip or none" in answer["error"]) == (415, True)


async def test_a_decompression_bomb_is_a_413(responder: ResponderServer) -> None:
    bomb = gzip.compress(b" " * (64 << 20))
    status, answer = await responder.post(ALERTS, bomb, headers=PACKED)
    assert (status, answer["error"]) == (413, f"the body is larger than {MOST_BYTES} bytes")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"not gzip", "damaged"),
        (gzip.compress(b"{}")[:-4], "ends too early"),
        (gzip.compress(b"{}") + b"xyz", "damaged"),
        (gzip.compress(b"") * (MOST_MEMBERS + 1), "gzip streams"),
        (zlib.compress(b"{}"), "damaged"),
    ],
    ids=["not-gzip", "cut-off", "trailing-bytes", "many-streams", "zlib"],
)
async def test_damaged_data_is_a_400(responder: ResponderServer, body: bytes, says: str) -> None:
    status, answer = await responder.post(ALERTS, body, headers=PACKED)
    assert (status, answer["where"]) == (400, "body")
    assert says in answer["error"]


def test_decompression_stops_at_the_limit() -> None:
    assert len(unpacked(gzip.compress(b"x" * MOST_BYTES))) == MOST_BYTES
    halves = gzip.compress(b"x" * (MOST_BYTES // 2))
    assert len(unpacked(halves * 2)) == MOST_BYTES
    with pytest.raises(bodies.web.HTTPRequestEntityTooLarge):
        unpacked(halves * 2 + gzip.compress(b"x"))
    with pytest.raises(Invalid):
        unpacked(b"\x1f\x8b")


# --- Expect: 100-continue ---
HEAD = (
    "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nExpect: {expect}\r\n"
    "Content-Length: {length}\r\n"
)


def host_of(responder: ResponderServer) -> str:
    return f"{responder.client.host}:{responder.client.port}"


async def answered(
    responder: ResponderServer, token: str | None, *, length: int = 999, expect: str = "100-continue"
) -> bytes:
    """The answer to the head of a request, before any byte of its body is sent."""
    reader, writer = await asyncio.open_connection(responder.client.host, responder.client.port)
    head = HEAD.format(path=ALERTS, expect=expect, length=length, host=host_of(responder))
    head += f"Authorization: Bearer {token}\r\n" if token else ""
    writer.write(f"{head}\r\n".encode())
    try:
        return await asyncio.wait_for(reader.readuntil(b"\r\n"), 5)
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("token", "how", "status"),
    [
        (None, {}, 401),
        ("wrong-token-wrong-token", {}, 401),
        (SECRETS["read"], {}, 403),
        (SECRETS["alerts"], {"length": MOST_BYTES + 1}, 413),
        (SECRETS["alerts"], {"expect": "200-maybe"}, 417),
        (SECRETS["alerts"], {}, 100),
    ],
)
async def test_the_body_is_requested_only_before_it_is_read(
    guarded_responder: ResponderServer, token: str | None, how: dict[str, Any], status: int
) -> None:
    assert (await answered(guarded_responder, token, **how)).startswith(f"HTTP/1.1 {status} ".encode())


async def test_a_connection_with_an_unrequested_body_is_closed(guarded_responder: ResponderServer) -> None:
    reader, writer = await asyncio.open_connection(guarded_responder.client.host, guarded_responder.client.port)
    writer.write(
        (HEAD.format(path=ALERTS, expect="100-continue", length=9, host=host_of(guarded_responder)) + "\r\n").encode()
    )
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    writer.close()
    await writer.wait_closed()
    assert b"\r\nconnection: close\r\n" in head.lower()


async def test_the_body_is_read_after_the_100(ready: ResponderServer) -> None:  # noqa: F811
    body = as_bytes(sent_body())
    reader, writer = await asyncio.open_connection(ready.client.host, ready.client.port)
    writer.write(
        (
            HEAD.format(path=ALERTS, expect="100-continue", length=len(body), host=host_of(ready))
            + "Connection: close\r\n\r\n"
        ).encode()
    )
    assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5) == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body)
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 202")
    assert b'"result": "allow"' in answer


# --- no text is a 5xx ---
NUL = "a\0b"
TEXTS: list[tuple[str, dict[str, Any], str]] = [
    ("/api/v1/deployments", {"service": "backend", "version": "3", "provenance": NUL}, "provenance"),
    ("/api/v1/deployments", {"service": "backend", "version": "3", "artifact": NUL}, "artifact"),
    ("/api/v1/deployments", {"service": "backend", "version": "3", "id": NUL}, "id"),
    ("/api/v1/deployments", {"service": "backend", "version": NUL}, "version"),
    ("/api/v1/deployments", {"service": NUL, "version": "3"}, "service"),
    ("/api/v1/deployments", {"service": "backend", "version": "3", "environment": NUL}, "environment"),
    ("/api/v1/deployments", {"service": "backend", "version": "3", "by": NUL}, "by"),
    ("/api/v1/versions/backend/2.1", {"status": "good", "reason": NUL}, "reason"),
    ("/api/v1/versions/backend/2.1", {"no_rollback": NUL}, "no_rollback"),
    ("/api/v1/clients/backend/web", {"reason": NUL, "min_version": "1"}, "reason"),
    ("/api/v1/rollbacks", {"service": "backend", "reason": NUL}, "reason"),
    ("/api/v1/rollbacks", {"service": "backend", "reason": "x", "version": NUL}, "version"),
    ("/api/v1/rollbacks", {"service": "backend", "reason": "x", "also": ["a", NUL]}, "also[1]"),
    ("/api/v1/executions/all/stop", {"reason": NUL}, "reason"),
    ("/api/v1/executions/x/stop", {"reason": NUL}, "reason"),
    ("/api/v1/executions/x/close", {"reason": NUL}, "reason"),
    ("/api/v1/executions/x/approve", {"plan_hash": NUL}, "plan_hash"),
]


@pytest.mark.parametrize(("path", "body", "where"), TEXTS, ids=[f"{path}-{where}" for path, _, where in TEXTS])
async def test_text_that_no_database_stores_is_a_400_with_its_path(
    responder: ResponderServer, path: str, body: dict[str, Any], where: str
) -> None:
    status, answer = await responder.post(path, body)
    assert (status, answer["where"]) == (400, where)
    half = as_bytes(body).replace(b"\\u0000", b"\\ud800")
    assert (await responder.post(path, half))[0] == 400


@pytest.mark.parametrize(
    ("method", "path", "where"),
    [
        ("GET", "/api/v1/executions/a%00b", "path.id"),
        ("GET", "/api/v1/versions/a%00b", "path.service"),
        ("GET", "/api/v1/versions/backend/a%00b", "path.platform"),
        ("POST", "/api/v1/versions/backend/a%00b", "path.version"),
        ("GET", "/api/v1/clients/backend/a%00b", "path.platform"),
        ("GET", "/api/v1/executions/x/evidence/a%00b", "path.name"),
        ("POST", "/api/v1/executions/a%00b/stop", "path.id"),
        ("GET", "/approve/a%00b", "path.id"),
        ("POST", "/stop/a%00b", "path.id"),
        ("GET", "/api/v1/decisions?service=a%00b", "service"),
        ("GET", "/api/v1/executions?state=a%00b", "state"),
        ("GET", "/api/v1/deployments?environment=a%00b", "environment"),
        ("GET", "/api/v1/preview?alertname=a%00b", "alertname"),
        ("GET", "/api/v1/status?a%00b=1", "query"),
    ],
)
async def test_also_in_the_url(responder: ResponderServer, method: str, path: str, where: str) -> None:
    form = path.startswith(("/stop", "/approve"))
    how = {} if method == "GET" else {"data": {"name": "x"}} if form else {"json": {}}
    status, answer = await responder.ask(method, path, **how)
    assert (status, answer.get("where")) == (400, where)


@pytest.mark.parametrize("text", ["%ff", "%ed%a0%80", "%c0%80", "%00%ff", "%e2%98%83", "..", "%2e%2e%2f"])
@pytest.mark.parametrize(
    "path", ["/api/v1/executions/{}", "/api/v1/versions/{}", "/api/v1/decisions?service={}", "/api/v1/preview?x={}"]
)
async def test_no_url_causes_a_5xx(responder: ResponderServer, path: str, text: str) -> None:
    async with responder.client.get(path.format(text)) as response:
        assert response.status < 500


@pytest.mark.parametrize(
    ("query", "where"),
    [
        (f"alertname={'x' * 1100}", "alertname"),
        ("&".join(f"l{n}=x" for n in range(65)), "query"),
        (f"{'n' * 200}=x", "n" * 53 + "… [cut]"),
    ],
)
async def test_a_preview_with_invalid_labels_is_a_400(responder: ResponderServer, query: str, where: str) -> None:
    status, answer = await responder.get(f"/api/v1/preview?{query}")
    assert (status, answer["where"]) == (400, where)


async def test_an_invalid_alert_in_alertmanager_affects_no_decision(ready: ResponderServer) -> None:  # noqa: F811
    long = {"alertname": "Odd", "environment": "production", "service": "other", "x": "y" * 5000}
    ready.alertmanager.fires(long, "0000000000000001")
    status, answer = await ready.post(ALERTS, sent_body())
    assert (status, answer["decisions"][0]["result"]) == (202, "allow"), answer["decisions"][0]["reason"]
    status, answer = await ready.get("/api/v1/preview?alertname=Odd")
    assert (status, answer["unmatched"][0]["x"]) == (200, "y" * 5000)
    assert LABELS["environment"] == "production"

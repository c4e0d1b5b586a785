"""An HTTP check holds only if the service gives the expected answer in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from responder.backends.connections import Connections
from responder.backends.http.client import Http
from responder.backends.http.http_check import HttpCheck
from responder.rollback.gateway import Gateway
from tests.responder.outside import serving


@pytest.fixture
async def site() -> AsyncIterator[str]:
    never = asyncio.Event()

    async def well(request: web.Request) -> web.Response:
        return web.json_response({"version": "2.1", "db": {"ok": True, "n": None}, "list": [1]})

    async def ill(request: web.Request) -> web.Response:
        return web.Response(status=503, text="starting")

    async def away(request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "/well"})

    async def slow(request: web.Request) -> web.Response:
        await never.wait()
        return web.Response()

    async def trickle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"status: ")
        await never.wait()
        return response

    async def echo(request: web.Request) -> web.Response:
        return web.Response(text=request.headers.get("X-Who", "nobody"))

    async def huge(request: web.Request) -> web.Response:
        return web.Response(body=b"x" * (2 << 20) + b"needle")

    async def binary(request: web.Request) -> web.Response:
        return web.Response(body=b"\xff\xfe ok \x00")

    async with serving(
        well=well, ill=ill, away=away, slow=slow, trickle=trickle, echo=echo, huge=huge, binary=binary
    ) as url:
        yield url
        never.set()


@pytest.mark.parametrize(
    ("path", "options", "holds", "reason"),
    [
        ("well", {}, True, "answered 200"),
        ("ill", {}, False, "answered 503, expected 200"),
        ("ill", {"status": 503}, True, "answered 503"),
        ("ill", {"status": 503, "body": "start"}, True, ""),
        ("nowhere", {}, False, "answered 404, expected 200"),
        ("away", {}, False, "answered 302, expected 200"),
        ("away", {"status": 302}, True, ""),
        ("well", {"body": '"ok": true'}, True, ""),
        ("well", {"body": r"version.+2\.\d"}, True, ""),
        ("well", {"body": "^version"}, False, "its body does not contain '^version'"),
        ("well", {"fields": {"version": "2.1"}}, True, ""),
        ("well", {"fields": {"version": "2.0"}}, False, 'version="2.1", expected "2.0"'),
        ("well", {"fields": {"db.ok": True}}, True, ""),
        ("well", {"fields": {"db.ok": True, "db.no": 1}}, False, "without db.no, expected 1"),
        ("well", {"fields": {"version.deeper": "x"}}, False, "without version.deeper"),
        ("ill", {"status": 503, "fields": {"a": 1}}, False, "its body is not JSON"),
        ("echo", {"headers": {"X-Who": "responder"}, "body": "^responder$"}, True, ""),
        ("binary", {"body": "ok"}, True, ""),
        ("huge", {"body": "x"}, True, ""),
        ("huge", {"body": "needle"}, False, "does not contain"),
    ],
)
async def test_http(path: str, options: dict[str, Any], holds: bool, reason: str, site: str) -> None:
    http = await Http.connect(None)
    try:
        finding = await HttpCheck(http=f"{site}/{path}", **options).holds(http)
    finally:
        await http.close()
    assert finding.holds is holds, finding.reason
    assert reason in finding.reason


@pytest.mark.parametrize("wanted", [1, "true", None, False])
async def test_a_field_is_compared_as_json_not_as_python(wanted: Any, site: str) -> None:
    """`True == 1` in Python, but `true` is not `1` in JSON."""
    http = await Http.connect(None)
    try:
        finding = await HttpCheck(http=f"{site}/well", fields={"db.ok": wanted}).holds(http)
    finally:
        await http.close()
    assert not finding.holds


async def test_a_field_that_is_missing_is_not_null(site: str) -> None:
    http = await Http.connect(None)
    try:
        present = await HttpCheck(http=f"{site}/well", fields={"db.n": None}).holds(http)
        missing = await HttpCheck(http=f"{site}/well", fields={"db.gone": None}).holds(http)
    finally:
        await http.close()
    assert (present.holds, missing.holds) == (True, False)


@pytest.mark.parametrize("path", ["slow", "trickle"])
async def test_a_late_answer_does_not_hold(path: str, site: str) -> None:
    http = await Http.connect(None)
    try:
        finding = await HttpCheck(http=f"{site}/{path}", timeout=0.05).holds(http)
        assert (finding.holds, finding.answered) == (False, True), "its silence is its answer"
        assert "did not answer within 0.05 s" in finding.reason
    finally:
        await http.close()


async def test_a_refused_connection_does_not_hold(free_port: int) -> None:
    connections = Connections()
    finding = await Gateway(connections).holds(HttpCheck(http=f"http://127.0.0.1:{free_port}/"))
    await connections.close()
    assert not finding.holds
    assert str(free_port) in finding.reason

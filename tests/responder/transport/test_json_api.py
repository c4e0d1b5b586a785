"""Every client of a JSON API has a deadline and a size limit, and respects a requested pause."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from responder.errors import Unavailable
from responder.transport import http_client
from responder.transport.http_client import body_of
from responder.transport.json_api import ApiRefused, JsonApi


class Example(JsonApi):
    name = "Example"

    async def _login(self) -> dict[str, str]:
        return {"Authorization": "Bearer t"}

    def _error(self, body: dict[str, Any]) -> tuple[str, str]:
        return str(body.get("code", "")), str(body.get("message", ""))


class Server:
    """Answers every request with the same response."""

    def __init__(self) -> None:
        self.response: dict[str, Any] = {"text": "{}"}
        self.delay, self.requests = 0.0, 0

    async def answer(self, request: web.Request) -> web.Response:
        self.requests += 1
        await asyncio.sleep(self.delay)
        return web.Response(**self.response)


@pytest.fixture
async def server() -> Server:
    return Server()


@pytest.fixture
async def api(server: Server) -> AsyncIterator[Example]:
    app = web.Application()
    app.router.add_route("*", "/v1/{path:.*}", server.answer)
    async with TestServer(app) as running:
        client = Example(f"{running.make_url('/v1')}/", 0.5)
        yield client
        await client.close()


async def test_returns_the_document(server: Server, api: Example) -> None:
    server.response = {"text": '{"a": [1]}'}
    assert await api.request("GET", "/x") == {"a": [1]}
    server.response = {"status": 204}
    assert await api.request("DELETE", "/x") is None


async def test_a_late_answer_is_unavailable(server: Server, api: Example) -> None:
    server.delay = 5.0
    with pytest.raises(Unavailable, match=r"Example did not answer within 0\.5 s"):
        await api.request("GET", "/x")


async def test_an_oversized_answer_is_unavailable(
    server: Server, api: Example, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "body_of", lambda response, longest, cut: body_of(response, 1000, cut=cut))
    server.response = {"text": f'"{"x" * 1000}"'}
    with pytest.raises(Unavailable, match="answered 200 with more than"):
        await api.request("GET", "/x")
    server.response |= {"status": 404}
    with pytest.raises(ApiRefused, match=r"Example refuses GET /x \(404\): \"x{199}$"):
        await api.request("GET", "/x")


async def test_a_refusal_has_its_status_and_reason(server: Server, api: Example) -> None:
    server.response = {"status": 400, "text": '{"code": "bad", "message": "no such field"}'}
    with pytest.raises(ApiRefused, match=r"Example refuses PUT /x \(400\): no such field") as refused:
        await api.request("PUT", "/x", {"a": 1})
    assert (refused.value.status, refused.value.reason) == (400, "bad")


async def test_a_requested_pause_is_respected(server: Server, api: Example) -> None:
    server.response = {"status": 429, "text": "slow down", "headers": {"Retry-After": "60"}}
    with pytest.raises(Unavailable, match="Example answered 429: slow down"):
        await api.request("GET", "/x")
    server.response = {"text": "{}"}
    with pytest.raises(Unavailable, match=r"Example answered 429: slow down; retry in (60|59) s"):
        await api.request("GET", "/x")
    assert server.requests == 1

"""A GET ends by its deadline, follows no redirect, and never reaches a process that was replaced meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from aioresponses import CallbackResult, aioresponses

from responder.backends.http.client import Http
from responder.errors import Unavailable
from tests.responder.outside import serving

URL = "http://backend.test/health"


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    made = await Http.connect(None)
    yield made
    await made.close()


async def test_status_and_body(http: Http) -> None:
    with aioresponses() as answers:
        answers.get(URL, status=503, body="ä")
        assert await http.get(URL, headers={}, timeout=60.0) == (503, "ä")


async def test_headers_are_sent_and_redirects_are_not_followed(http: Http) -> None:
    seen: list[object] = []

    def answer(url: object, **how: object) -> CallbackResult:
        seen.append((how["headers"], how["allow_redirects"]))
        return CallbackResult(status=302, headers={"Location": "http://169.254.169.254/"})

    with aioresponses() as answers:
        answers.get(URL, callback=answer)
        assert await http.get(URL, headers={"Host": "shop"}, timeout=60.0) == (302, "")
    assert seen == [({"Host": "shop"}, False)]


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (TimeoutError(), "did not answer within 0.5 s"),
        (aiohttp.ClientConnectionError("refused"), "refused"),
        (aiohttp.ServerDisconnectedError(), "the server closed the connection without an answer"),
        (aiohttp.ClientPayloadError("cut off"), "the body ended too early"),
        (OSError(101, "Network is unreachable"), "Network is unreachable"),
    ],
)
async def test_no_answer_is_unavailable_with_a_reason(error: Exception, says: str, http: Http) -> None:
    with aioresponses() as answers:
        answers.get(URL, exception=error)
        with pytest.raises(Unavailable, match=says) as raised:
            await http.get(URL, headers={}, timeout=0.5)
    assert URL in str(raised.value)


async def test_every_request_has_its_own_connection(http: Http) -> None:
    ports: set[object] = set()

    async def whoami(request: web.Request) -> web.Response:
        assert request.transport is not None
        ports.add(request.transport.get_extra_info("peername")[1])
        return web.Response()

    async with serving(whoami=whoami) as url:
        for _ in range(3):
            await http.get(f"{url}/whoami", headers={}, timeout=60.0)
    assert len(ports) == 3


async def test_an_endless_body_is_read_up_to_the_limit(http: Http) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65536)
        except (ConnectionError, asyncio.CancelledError):
            return response

    async with serving(endless=endless) as url:
        status, body = await http.get(f"{url}/endless", headers={}, timeout=60.0)
    assert (status, len(body)) == (200, 1 << 20)


async def test_cookies_are_not_kept(http: Http) -> None:
    """A session cookie would pin a probe to the instance of the last request."""
    seen: list[str] = []

    async def sticky(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Cookie", ""))
        return web.Response(headers={"Set-Cookie": "route=old; Domain=localhost"})

    async with serving(sticky=sticky) as url:
        named = url.replace("127.0.0.1", "localhost")
        for _ in range(2):
            await http.get(f"{named}/sticky", headers={}, timeout=60.0)
    assert seen == ["", ""]

"""Errors of the HTTP client."""

from __future__ import annotations

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from aioresponses import aioresponses

from responder.transport.http_client import HttpClient, NoAnswer


@pytest.mark.parametrize(
    ("error", "seconds"), [(aiohttp.ConnectionTimeoutError(), 5), (aiohttp.SocketTimeoutError(), 40)]
)
async def test_a_timeout_is_reported_with_the_limit_that_it_exceeded(error: Exception, seconds: int) -> None:
    client, limits = HttpClient(30.0), aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=40)
    with aioresponses() as answers:
        answers.get("http://h/", exception=error)
        with pytest.raises(NoAnswer, match=f"^the server did not answer within {seconds} s$"):
            async with client.stream("GET", "http://h/", shown="the server", timeout=limits):
                pass
    await client.close()


async def test_the_arrived_part_of_a_failure_is_kept() -> None:
    async def broken(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=500, headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"out of memory")
        assert request.transport is not None
        request.transport.close()
        return response

    app, client = web.Application(), HttpClient(30.0)
    app.router.add_get("/", broken)
    async with TestServer(app) as server:
        answer = await client.send("GET", server.make_url("/"), shown="the server")
    assert (answer.status, answer.text) == (500, "out of memory")
    await client.close()

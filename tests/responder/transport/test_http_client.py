"""Errors of the HTTP client."""

from __future__ import annotations

import aiohttp
import pytest
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

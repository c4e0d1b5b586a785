"""The HTTP client of the channels: one session each, no redirects, and no secrets in errors."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import time
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import aiohttp

from responder.config.text import one_line
from responder.notify.channel import NotDelivered
from responder.transport.retry_after import retry_after

_MOST = 16 << 20
"""Longest response in bytes: a hundred of GitHub's longest issues fit."""


class Response(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: Any  # parsed JSON; otherwise text


class Api:
    """A session with one service. `timeout`: seconds for one request."""

    def __init__(self, timeout: float, headers: Mapping[str, str] | None = None) -> None:
        self._timeout, self._headers = timeout, {"User-Agent": "rollback-responder", **(headers or {})}
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Closes the session."""
        if self._session is not None:
            await self._session.close()

    async def connect(self, url: str) -> None:
        """Opens a connection, with TLS for https URLs, and sends nothing. Raises NotDelivered."""
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        try:
            async with asyncio.timeout(self._timeout):
                context = await asyncio.to_thread(ssl.create_default_context) if secure else None
                _, writer = await asyncio.open_connection(parts.hostname, port, ssl=context)
                writer.close()
        except TimeoutError:
            raise NotDelivered(f"{parts.hostname}:{port} did not answer within {self._timeout:g} s") from None
        except OSError as e:
            raise NotDelivered(f"{parts.hostname}:{port}: {e.strerror or e}") from None

    async def request(
        self, method: str, url: str, *, accepted: tuple[int, ...] = (), ignore_body: bool = False, **options: Any
    ) -> Response:
        """The response if its status is 2xx or one of `accepted`. Raises NotDelivered, without the path of the URL.

        `ignore_body`: returns with the headers of a 2xx response and reads no body.
        """
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers=self._headers,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=self._timeout),
            )
        host = urlsplit(url).netloc.rpartition("@")[2]
        try:
            async with self._session.request(method, url, allow_redirects=False, **options) as response:
                if ignore_body and 200 <= response.status < 300:
                    return Response(response.status, response.headers, None)
                answer = Response(response.status, response.headers, _data(await _read(response, host)))
        except TimeoutError:
            raise NotDelivered(f"{host} did not answer within {self._timeout:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as e:
            reason = e.strerror if isinstance(e, aiohttp.ClientConnectorError) and e.strerror else type(e).__name__
            raise NotDelivered(f"{host}: {reason}") from None
        if 200 <= answer.status < 300 or answer.status in accepted:
            return answer
        raise NotDelivered(
            f"{host} answered {answer.status}{_detail(answer.body)}",
            retry_after=_retry_after(answer.status, answer.headers),
        )


async def _read(response: aiohttp.ClientResponse, host: str) -> bytes:
    raw = bytearray()  # one read returns what has arrived so far, not the whole body
    try:
        while chunk := await response.content.read(_MOST - len(raw) + 1):
            raw += chunk
            if len(raw) > _MOST:
                raise NotDelivered(f"{host} answered {response.status} with more than {_MOST >> 20} MiB")
    except aiohttp.ClientPayloadError:
        if response.status < 300:
            raise
    return bytes(raw)


def _data(raw: bytes) -> Any:
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(raw)
    return raw.decode(errors="replace")


def _detail(body: Any) -> str:
    if isinstance(body, dict):
        body = body.get("message") or body.get("error") or ""
    return f": {one_line(body, 200)}" if body else ""


def _retry_after(status: int, headers: Mapping[str, str]) -> float | None:
    """Seconds to wait before the next request, from Retry-After or GitHub's rate limit headers; None if unknown."""
    if (pause := retry_after(headers)) is not None:
        return pause
    if status in (403, 429) and headers.get("X-RateLimit-Remaining") == "0":
        reset = headers.get("X-RateLimit-Reset", "")
        return min(max(float(reset) - time.time(), 1.0), 3600.0) if reset.isdecimal() else None
    return None

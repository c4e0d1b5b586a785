"""The HTTP client of the channels. Its errors are NotDelivered, and name the host but not the path of the URL."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from yarl import URL

from responder.config.text import one_line
from responder.errors import Unavailable
from responder.notify.channel import NotDelivered
from responder.transport.http_client import Answer, HttpClient, reach
from responder.transport.retry_after import retry_after

_MOST = 16 << 20
"""Longest answer in bytes: a hundred of GitHub's longest issues fit."""


class Api:
    """A session with one service. `timeout`: seconds for one request."""

    def __init__(self, timeout: float, headers: Mapping[str, str] | None = None) -> None:
        self._timeout = timeout
        self._http = HttpClient(timeout, headers={"User-Agent": "rollback-responder", **(headers or {})})

    async def close(self) -> None:
        """Closes the session."""
        await self._http.close()

    async def connect(self, url: str) -> None:
        """Opens a connection, with TLS for https URLs, and sends nothing. Raises NotDelivered."""
        shown = f"{URL(url).host}:{URL(url).port}"
        try:
            await reach(url, shown=shown, timeout=self._timeout)
        except Unavailable as e:
            raise NotDelivered(str(e)) from None
        except ConnectionRefusedError:
            raise NotDelivered(f"{shown}: Connection refused") from None

    async def request(self, method: str, url: str, *, accepted: tuple[int, ...] = (), **options: Any) -> Answer:
        """The answer if its status is 2xx or one of `accepted`. Raises NotDelivered. `options`: see HttpClient.send."""
        host = urlsplit(url).netloc.rpartition("@")[2]
        try:
            answer = await self._http.send(method, url, shown=host, longest=_MOST, **options)
        except Unavailable as e:
            raise NotDelivered(str(e)) from None
        if answer.succeeded or answer.status in accepted:
            return answer
        raise NotDelivered(f"{host} answered {answer.status}{_detail(answer.data)}", retry_after=_pause(answer))


def _detail(data: Any) -> str:
    if isinstance(data, dict):
        data = data.get("message") or data.get("error") or ""
    return f": {one_line(data, 200)}" if data else ""


def _pause(answer: Answer) -> float | None:
    """Seconds to wait before the next request, from Retry-After or GitHub's rate limit headers; None if unknown."""
    if (pause := retry_after(answer.headers)) is not None:
        return pause
    if answer.status in (403, 429) and answer.headers.get("X-RateLimit-Remaining") == "0":
        reset = answer.headers.get("X-RateLimit-Reset", "")
        return min(max(float(reset) - time.time(), 1.0), 3600.0) if reset.isdecimal() else None
    return None

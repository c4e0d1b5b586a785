"""Clients of JSON APIs: every request has a deadline and every answer a size limit; a requested pause is kept."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import aiohttp

from responder.errors import StepFailed, Unavailable
from responder.transport.bodies import body_of, json_object
from responder.transport.retry_after import retry_after


class ApiRefused(StepFailed):
    """An API refused a request, and a retry would not help. `reason` is the error code of the API, or empty."""

    def __init__(self, message: str, status: int, reason: str) -> None:
        super().__init__(message)
        self.status, self.reason = status, reason


class JsonApi(ABC):
    """One API at `url`. `timeout` is the deadline of one request in seconds."""

    name: ClassVar[str]

    def __init__(self, url: str, timeout: float) -> None:
        self._url, self._timeout = url.rstrip("/"), timeout
        self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        self._paused_until, self._pause_reason = 0.0, ""

    async def close(self) -> None:
        """Closes all connections."""
        await self._session.close()

    async def request(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        """Returns the JSON document of the answer, or None if it has no body.

        Raises Unavailable if there is no answer, for 408, 429 and 5xx, and during a requested pause. Raises ApiRefused
        for every other status that is not 2xx.
        """
        if (left := self._paused_until - time.monotonic()) > 0:
            raise Unavailable(f"{self._pause_reason}; retry in {left:.0f} s")
        login = await self._login()
        status, answer_headers, text = await self._send(method, path, body, {**(headers or {}), **login})
        if 200 <= status < 300:
            return self._document(status, text)
        reason, message = self._error(json_object(text))
        message = message or text.strip()[:200] or "(no text)"
        if status in (408, 429) or status >= 500 or self._over_quota(reason):
            why = f"{self.name} answered {status}: {message}"
            if pause := retry_after(answer_headers) or self._usual_pause(answer_headers):
                self._paused_until, self._pause_reason = time.monotonic() + pause, why
            raise Unavailable(why)
        raise ApiRefused(f"{self.name} refuses {method} {path} ({status}): {message}", status, reason)

    async def _send(
        self, method: str, path: str, body: Any, headers: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str], str]:
        timeout = aiohttp.ClientTimeout(total=self._timeout)
        try:
            async with self._session.request(
                method, self._url + path, json=body, headers=headers, timeout=timeout, allow_redirects=False
            ) as answer:
                return answer.status, answer.headers, (await body_of(answer)).decode(errors="replace")
        except TimeoutError:
            raise Unavailable(f"{self.name} did not answer within {self._timeout:g} s") from None
        except (aiohttp.ClientError, OSError) as e:
            raise Unavailable(f"{self.name}: {e or type(e).__name__}") from e

    def _document(self, status: int, text: str) -> Any:
        try:
            return json.loads(text) if text else None
        except (ValueError, RecursionError) as e:
            raise Unavailable(f"{self.name} answered {status}, expected JSON, not {text[:200]!r}") from e

    @abstractmethod
    async def _login(self) -> dict[str, str]:
        """Returns the headers that authenticate a request. Raises StepFailed if the credentials are unusable."""

    @abstractmethod
    def _error(self, body: dict[str, Any]) -> tuple[str, str]:
        """Returns the error code and the message in the body of a failure; empty where it has none."""

    def _over_quota(self, reason: str) -> bool:
        """Returns whether an error code means that a retry later can succeed."""
        return False

    def _usual_pause(self, headers: Mapping[str, str]) -> float:
        """Returns the seconds to pause after a temporary failure without Retry-After."""
        return 0.0

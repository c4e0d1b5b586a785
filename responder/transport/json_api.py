"""Clients of JSON APIs with a login. They keep a pause that the API requests."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from responder.errors import StepFailed, Unavailable
from responder.transport.http_client import Answer, HttpClient
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
        self._http = HttpClient(timeout)
        self._paused_until, self._pause_reason = 0.0, ""

    async def close(self) -> None:
        """Closes all connections."""
        await self._http.close()

    async def request(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        """Returns the JSON document of the answer, or None if it has no body.

        Raises Unavailable if there is no answer, for 408, 429 and 5xx, and during a requested pause. Raises ApiRefused
        for every other status that is not 2xx.
        """
        if (left := self._paused_until - time.monotonic()) > 0:
            raise Unavailable(f"{self._pause_reason}; retry in {left:.0f} s")
        login = await self._login()
        answer = await self._send(method, path, body, {**(headers or {}), **login})
        status = answer.status
        if answer.succeeded:
            return self._document(status, answer.text)
        reason, message = self._error(answer.json_object)
        message = message or answer.text.strip()[:200] or "(no text)"
        if status in (408, 429) or status >= 500 or self._over_quota(reason):
            why = f"{self.name} answered {status}: {message}"
            if pause := retry_after(answer.headers) or self._usual_pause(answer.headers):
                self._paused_until, self._pause_reason = time.monotonic() + pause, why
            raise Unavailable(why)
        raise ApiRefused(f"{self.name} refuses {method} {path} ({status}): {message}", status, reason)

    async def _send(self, method: str, path: str, body: Any, headers: Mapping[str, str]) -> Answer:
        return await self._http.send(method, self._url + path, shown=self.name, json=body, headers=headers)

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

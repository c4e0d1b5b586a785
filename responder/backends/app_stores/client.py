"""An app store's API: a login made from a key that stays here, and answers that say whether another try is worth it."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import aiohttp
from pydantic import SecretStr

from responder.errors import StepFailed, Unavailable
from responder.transport.bodies import body_of, json_object
from responder.transport.retry_after import retry_after


class StoreRefused(StepFailed):
    """An answer that another try would not change. `reason` is the store's word for it."""

    def __init__(self, message: str, status: int, reason: str) -> None:
        super().__init__(message)
        self.status, self.reason = status, reason


class Store(ABC):
    """JSON over HTTP. While a store has asked us to wait, it is left alone."""

    name: ClassVar[str]
    extra: ClassVar[str] = "stores"
    rights: ClassVar[str]
    """What a person has to look after where we may not."""

    def __init__(self, url: str, timeout: float) -> None:
        self._url, self._timeout = url.rstrip("/"), timeout
        self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        self._wait_until, self._why_wait = 0.0, ""

    async def close(self) -> None:
        await self._session.close()

    async def _ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """The answer, empty where there is no body.

        Raises Unavailable where it does not answer or asks us to wait, and Halt where it refuses.
        """
        if (left := self._wait_until - time.monotonic()) > 0:
            raise Unavailable(f"{self._why_wait}; it wants to be asked again in {left:.0f} s")
        status, headers, text = await self._send(method, path, body, {"Authorization": f"Bearer {await self._login()}"})
        answer = json_object(text)
        if 200 <= status < 300:
            if text and not answer:
                raise Unavailable(f"{self.name} answered {status} with something else than JSON: {text[:200]}")
            return answer
        reason, message = self._said(answer)
        message = message or text.strip()[:200] or "(nothing)"
        if status in (408, 429) or status >= 500 or self._over_quota(reason):
            why = f"{self.name} answered {status}: {message}"
            if pause := retry_after(headers) or self._usual_pause(headers):
                self._wait_until, self._why_wait = time.monotonic() + pause, why
            raise Unavailable(why)
        if status == 401:
            self._forget_login()
        if status in (401, 403):
            raise StepFailed(f"{self.name} does not let us ({status}): {message}. {self.rights}")
        raise StoreRefused(f"{self.name} refuses {method} {path} ({status}): {message}", status, reason)

    async def _send(
        self, method: str, path: str, body: Any, headers: dict[str, str]
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

    @contextmanager
    def _shape(self) -> Iterator[None]:
        """Around what reads an answer that succeeded: of another shape, it is no answer."""
        try:
            yield
        except (LookupError, TypeError, AttributeError, ValueError) as e:
            raise Unavailable(f"{self.name} answered with something else: {type(e).__name__} {e}") from e

    @abstractmethod
    async def _login(self) -> str:
        """A bearer token that holds. Raises Halt where the key makes none."""

    @abstractmethod
    def _forget_login(self) -> None: ...

    @abstractmethod
    def _said(self, body: dict[str, Any]) -> tuple[str, str]:
        """The store's word for what is wrong, and its sentence; empty where it has none."""

    def _over_quota(self, reason: str) -> bool:
        return False

    def _usual_pause(self, headers: Mapping[str, str]) -> float:
        """Seconds to wait where the answer names none."""
        return 0.0


async def key_text(key: SecretStr | None, file: Path | None, what: str) -> str:
    """Raises Halt where it cannot be read, and never says what is in it."""
    if key is not None:
        return key.get_secret_value()
    try:
        return await asyncio.to_thread(lambda: file.read_text() if file else "")
    except (OSError, UnicodeDecodeError) as e:
        raise StepFailed(f"{what}: {file} cannot be read: {getattr(e, 'strerror', None) or 'it is no text'}") from None

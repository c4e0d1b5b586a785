"""Cloudflare's and Fastly's APIs: a token that stays here, and answers that say whether another try is worth it."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import aiohttp
from pydantic import BaseModel, ConfigDict, Field, HttpUrl, SecretStr

from responder.config.durations import Duration
from responder.errors import StepFailed, Unavailable
from responder.transport.acting import acting
from responder.transport.bodies import body_of


class CloudflareSettings(BaseModel):
    """How Cloudflare is reached."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    token: SecretStr = Field(description="API token that may purge the cache of the zones, as ${CLOUDFLARE_TOKEN}")
    url: HttpUrl = Field(default=HttpUrl("https://api.cloudflare.com/client/v4"), description="Where its API is")
    timeout: Duration = Field(default=15.0, gt=0, description="Longest wait for one answer")


class FastlySettings(BaseModel):
    """How Fastly is reached."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    token: SecretStr = Field(description="API token that may activate versions and purge, as ${FASTLY_TOKEN}")
    url: HttpUrl = Field(default=HttpUrl("https://api.fastly.com"), description="Where its API is")
    timeout: Duration = Field(default=15.0, gt=0, description="Longest wait for one answer")


class CdnRefused(StepFailed):
    """An answer that another try would not change."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Cdn(ABC):
    """One CDN's API, JSON over HTTP. Purges leave no trace there, so those of this connection are remembered here."""

    name: ClassVar[str]

    def __init__(self, settings: CloudflareSettings | FastlySettings) -> None:
        self.purged: set[str] = set()
        self._settings = settings
        self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())

    @classmethod
    async def connect(cls, settings: CloudflareSettings | FastlySettings | None) -> Self:
        if settings is None:
            raise StepFailed(f"there is no token for {cls.name}: configure cdn.{cls.name.lower()}")
        return cls(settings)

    async def close(self) -> None:
        await self._session.close()

    async def read(self, path: str) -> Any:
        return await self._call("GET", path, None, {})

    async def write(
        self, method: str, path: str, body: dict[str, Any] | None = None, headers: dict[str, str] | None = None
    ) -> Any:
        """A call that changes something: only while we may act."""
        acting.get()()
        return await self._call(method, path, body, headers or {})

    async def _call(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Any:
        """Raises Unavailable where it does not answer or asks us to wait, and Halt where it refuses."""
        status, text = await self._send(method, path, body, {**headers, **self._login()})
        if status in (408, 429) or status >= 500:
            raise Unavailable(f"{self.name} answered {status}: {_said(text)}")
        if not 200 <= status < 300:
            raise CdnRefused(f"{self.name} refuses {method} {path} ({status}): {_said(text)}", status)
        try:
            answer = json.loads(text) if text else None
        except ValueError as e:
            raise Unavailable(f"{self.name} answered {status} with something else than JSON: {_said(text)}") from e
        if isinstance(answer, dict) and answer.get("success") is False:
            raise StepFailed(f"{self.name} refuses {method} {path}: {_said(text)}")
        return answer

    async def _send(self, method: str, path: str, body: Any, headers: dict[str, str]) -> tuple[int, str]:
        url = str(self._settings.url).rstrip("/") + path
        timeout = aiohttp.ClientTimeout(total=self._settings.timeout)
        try:
            async with self._session.request(
                method, url, json=body, headers=headers, timeout=timeout, allow_redirects=False
            ) as answer:
                return answer.status, (await body_of(answer)).decode(errors="replace")
        except TimeoutError:
            raise Unavailable(f"{self.name} did not answer within {self._settings.timeout:g} s") from None
        except (aiohttp.ClientError, OSError) as e:
            raise Unavailable(f"{self.name}: {e or type(e).__name__}") from e

    @property
    def _token(self) -> str:
        return self._settings.token.get_secret_value()

    @abstractmethod
    def _login(self) -> dict[str, str]: ...


class Cloudflare(Cdn):
    """Cloudflare's API v4."""

    name = "Cloudflare"

    async def knows_zone(self, zone: str) -> bool | None:
        """Whether there is such a zone; None where the token may not see it, as one that may only purge."""
        try:
            await self.read(f"/zones/{zone}")
        except CdnRefused as refused:
            return None if refused.status in (401, 403) else False
        return True

    async def verify_token(self) -> None:
        """Raises CdnRefused where the token is not valid or not active."""
        await self.read("/user/tokens/verify")

    def _login(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"}


class Fastly(Cdn):
    """Fastly's API."""

    name = "Fastly"

    async def purge_refused(self, service: str) -> str:
        """Why the token cannot purge the service; empty where it can."""
        token = await self.read("/tokens/self")
        services, scopes = token.get("services") or [], str(token.get("scope", "global")).split()
        if services and service not in services:
            return f"it is for {', '.join(services)}"
        return "" if {"global", "purge_all", "purge_select"} & set(scopes) else f"it has the scope {' '.join(scopes)}"

    def _login(self) -> dict[str, str]:
        return {"Fastly-Key": self._token}


def _said(text: str) -> str:
    """Cloudflare's `errors` or Fastly's `msg`, or the beginning of whatever else it is."""
    try:
        body = json.loads(text)
        if errors := body.get("errors"):
            return "; ".join(f"{error.get('message')} ({error.get('code')})" for error in errors)
        return f"{body['msg']} {body.get('detail', '')}".strip()
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        return text.strip()[:200] or "(nothing)"

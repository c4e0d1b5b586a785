"""Alertmanager's API v2: what is firing, silenced or inhibited at this moment, asked of every peer."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Literal, Self, TypeVar
from urllib.parse import quote

import aiohttp
from pydantic import BaseModel, ConfigDict, Field, HttpUrl, SecretStr, TypeAdapter

from responder.durations import Duration
from responder.errors import Unavailable


class AlertmanagerSettings(BaseModel):
    """Every Alertmanager of the cluster: alerts are not gossiped between peers, so each of them is asked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    urls: Annotated[tuple[HttpUrl, ...], Field(min_length=1, description="Base URLs, as [http://localhost:9093]")]
    token: SecretStr | None = Field(default=None, description="Bearer token, as ${ALERTMANAGER_TOKEN}")
    timeout: Duration = Field(default=3.0, gt=0, description="Longest wait for an answer")


class Silence(BaseModel):
    """Who silenced, until when, and why."""

    id: str
    created_by: str = Field(alias="createdBy")
    comment: str = ""

    def __str__(self) -> str:
        return f"silence {self.id} of {self.created_by}" + (f": {self.comment}" if self.comment else "")


class LiveAlert(BaseModel):
    """One alert as an Alertmanager has it now."""

    fingerprint: str
    state: Literal["active", "suppressed", "unprocessed"]
    silenced_by: tuple[str, ...] = ()
    inhibited_by: tuple[str, ...] = ()


class _Status(BaseModel):
    state: Literal["active", "suppressed", "unprocessed"]
    silenced_by: tuple[str, ...] = Field(alias="silencedBy")
    inhibited_by: tuple[str, ...] = Field(alias="inhibitedBy")


class _Raw(BaseModel):
    """An alert as API v2 tells it."""

    fingerprint: str
    status: _Status

    def live(self) -> LiveAlert:
        return LiveAlert(fingerprint=self.fingerprint, **dict(self.status))


_ALERTS = TypeAdapter(list[_Raw])
_SILENCE = TypeAdapter(Silence)
T = TypeVar("T")


class Alertmanager:
    """Asks all peers at once. One answer is enough; none is `Unavailable`."""

    def __init__(self, settings: AlertmanagerSettings) -> None:
        self._settings = settings
        headers = {"Authorization": f"Bearer {settings.token.get_secret_value()}"} if settings.token else {}
        self._session = aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=settings.timeout))

    @classmethod
    async def connect(cls, settings: AlertmanagerSettings) -> Self:
        return cls(settings)

    async def close(self) -> None:
        await self._session.close()

    async def alerts(self, labels: dict[str, str]) -> list[LiveAlert]:
        """Alerts that carry these labels, whatever their state, each as the strictest of the peers sees it.

        A silence reaches the peers by gossip, one after the other: what one of them suppresses counts as suppressed.
        """
        filters = [("filter", f"{name}={json.dumps(value, ensure_ascii=False)}") for name, value in labels.items()]
        found: dict[str, LiveAlert] = {}
        for peer in await self._all("/api/v2/alerts", filters, _ALERTS):
            for raw in peer:
                alert = raw.live()
                if alert.fingerprint not in found or alert.state == "suppressed":
                    found[alert.fingerprint] = alert
        return list(found.values())

    async def silence(self, silence_id: str) -> Silence:
        """Author and comment of a silence; one that has gone by now still explains a refusal, and is told as such."""
        try:
            return (await self._all(f"/api/v2/silence/{quote(silence_id, safe='')}", [], _SILENCE))[0]
        except Unavailable:
            return Silence(id=silence_id, createdBy="an unknown author")

    async def _all(self, path: str, query: list[tuple[str, str]], shape: TypeAdapter[T]) -> list[T]:
        asked = [self._get(str(url).rstrip("/") + path, query, shape) for url in self._settings.urls]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, Unavailable):
                raise answer
        good = [a for a in answers if not isinstance(a, BaseException)]
        if not good:
            raise Unavailable("no Alertmanager answered: " + "; ".join(str(a) for a in answers))
        return good

    async def _get(self, url: str, query: list[tuple[str, str]], shape: TypeAdapter[T]) -> T:
        try:
            async with self._session.get(url, params=query) as response:
                if response.status != 200:
                    raise Unavailable(f"{url} answered {response.status}")
                return shape.validate_json(await response.read())
        except (aiohttp.ClientError, TimeoutError, ValueError) as e:
            raise Unavailable(f"{url}: {type(e).__name__} {e}".rstrip()) from e

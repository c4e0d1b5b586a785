"""A client of Alertmanager's API v2 that queries every peer for live alerts and silences."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, Field, HttpUrl, SecretStr, TypeAdapter

from foundation.durations import Duration
from foundation.models import StrictModel
from responder.backends.alertmanager.alerts import Timestamp
from responder.backends.alertmanager.live_alerts import AlertQuery, LiveAlert, LiveAlerts
from responder.backends.alertmanager.matchers import Matcher, Matchers, all_match
from responder.config.text import one_line
from responder.errors import Unavailable
from responder.transport.http_client import LONGEST, HttpClient, body_of
from responder.transport.shared_answers import SharedAnswers

if TYPE_CHECKING:
    import aiohttp


class AlertmanagerSettings(StrictModel):
    """All Alertmanagers of the cluster. Peers do not share alerts, so each one is queried."""

    urls: Annotated[tuple[HttpUrl, ...], Field(min_length=1, description="Base URLs, such as [http://localhost:9093]")]
    token: SecretStr | None = Field(default=None, description="Bearer token, such as ${ALERTMANAGER_TOKEN}")
    timeout: Duration = Field(default=3.0, gt=0, description="Deadline for one answer")


class Silence(BaseModel):
    """A silence: author, end and comment."""

    id: str
    created_by: str = Field(alias="createdBy")
    comment: str = ""
    ends_at: Timestamp | None = Field(default=None, alias="endsAt")

    def __str__(self) -> str:
        until = f" (until {self.ends_at:%Y-%m-%d %H:%M:%S} UTC)" if self.ends_at else ""
        return f"silence {self.id} of {self.created_by}{f': {self.comment}' if self.comment else ''}{until}"


class _ListedMatcher(BaseModel):
    """A matcher of a silence in the format of API v2."""

    name: str
    value: str
    is_regex: bool = Field(alias="isRegex")
    is_equal: bool = Field(default=True, alias="isEqual")

    @property
    def parsed(self) -> Matcher:
        op = {(True, False): "=", (False, False): "!=", (True, True): "=~", (False, True): "!~"}
        return Matcher(name=self.name, op=op[self.is_equal, self.is_regex], value=self.value)


class _Listed(Silence):
    """A listed silence with its state."""

    status: dict[str, str] = Field(default_factory=dict)
    matchers: tuple[_ListedMatcher, ...] = ()

    @property
    def state(self) -> str:
        return self.status.get("state", "")

    def silences(self, labels: Mapping[str, str]) -> bool:
        """Whether it mutes an alert with these labels now."""
        return self.state == "active" and all_match([matcher.parsed for matcher in self.matchers], labels)


class NewSilence(BaseModel):
    """A silence to create. Its comment is its identity."""

    matchers: Matchers
    comment: str
    starts_at: datetime
    ends_at: datetime

    def posted(self, author: str) -> dict[str, Any]:
        matchers = [
            {"name": m.name, "value": m.value, "isRegex": m.op.endswith("~"), "isEqual": m.op.startswith("=")}
            for m in self.matchers
        ]
        times = {"startsAt": self.starts_at.isoformat(), "endsAt": self.ends_at.isoformat()}
        return {"matchers": matchers, **times, "createdBy": author, "comment": self.comment}


class _Original(BaseModel):
    original: str


class _Loaded(BaseModel):
    config: _Original


T = TypeVar("T")

_OFF_THE_LOOP = 1 << 16
"""Bytes; a larger answer is parsed in a thread."""


_QUERIES = 8
"""Queries whose last answers are kept: decisions make one for each environment and one for the watchdog."""

_LOADED = TypeAdapter(_Loaded).validate_json
_SILENCE = TypeAdapter(Silence).validate_json
_SILENCES = TypeAdapter(list[_Listed]).validate_json


class Alertmanager:
    """Queries all peers at once. One answer is enough; raises Unavailable if no peer answers."""

    setting = "alertmanager"

    def __init__(self, settings: AlertmanagerSettings) -> None:
        self._settings = settings
        headers = {"Authorization": f"Bearer {settings.token.get_secret_value()}"} if settings.token else {}
        self._http = HttpClient(settings.timeout, headers=headers, follow_redirects=True)
        self._shared: SharedAnswers[LiveAlerts] = SharedAnswers()
        self._queries: dict[frozenset[tuple[str, str]], AlertQuery] = {}

    @classmethod
    async def connect(cls, settings: AlertmanagerSettings) -> Self:
        return cls(settings)

    async def close(self) -> None:
        await self._shared.close()
        await self._http.close()

    async def alerts(self, labels: Mapping[str, str]) -> LiveAlerts:
        """Alerts with these labels in any state, each in the strictest state of all peers.

        Peers receive a silence one after the other, so an alert that one of them suppresses counts as suppressed.
        Calls at the same time share an answer that was requested after they began.
        """
        key = frozenset(labels.items())
        return await self._shared.get(key, lambda: self._alerts(labels, self._query(key)))

    def _query(self, key: frozenset[tuple[str, str]]) -> AlertQuery:
        self._queries[key] = self._queries.pop(key) if key in self._queries else AlertQuery()
        if len(self._queries) > _QUERIES:
            del self._queries[next(iter(self._queries))]
        return self._queries[key]

    async def _alerts(self, labels: Mapping[str, str], query: AlertQuery) -> LiveAlerts:
        filters = [("filter", str(Matcher(name, "=", value))) for name, value in labels.items()]
        return query.of(await _answered(self._alerts_of(url, filters, query) for url in self._urls("/api/v2/alerts")))

    async def _alerts_of(self, url: str, filters: list[tuple[str, str]], query: AlertQuery) -> list[LiveAlert]:
        first = b""

        async def chunks(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
            nonlocal first
            size = 0
            async for chunk in response.content.iter_any():
                first, size = first or chunk, size + len(chunk)
                if size > LONGEST:
                    raise Unavailable(f"{url} answered with more than {LONGEST >> 20} MiB")
                yield chunk

        async with self._http.stream("GET", url, shown=url, params=filters) as response:
            if response.status != 200:
                raise _wrong_status(url, response.status, await body_of(response, cut=True))
            try:
                return await query.read(url, chunks(response))
            except ValueError:
                raise _unexpected(url, first) from None

    async def configurations(self) -> dict[str, str | Unavailable]:
        """The loaded configuration of each peer as YAML without secrets, or its error."""
        urls = [str(url).rstrip("/") for url in self._settings.urls]
        requests = (self._get(f"{url}/api/v2/status", [], _LOADED) for url in urls)
        answers = await asyncio.gather(*requests, return_exceptions=True)
        found: dict[str, str | Unavailable] = {}
        for url, answer in zip(urls, answers, strict=True):
            if isinstance(answer, BaseException) and not isinstance(answer, Unavailable):
                raise answer
            found[url] = answer if isinstance(answer, Unavailable) else answer.config.original
        return found

    async def silence(self, silence_id: str) -> Silence:
        """Author and comment of a silence; a placeholder if it no longer exists."""
        try:
            return (await self._all(f"/api/v2/silence/{quote(silence_id, safe='')}", [], _SILENCE))[0]
        except Unavailable:
            return Silence(id=silence_id, createdBy="an unknown author")

    async def silencing(self, labels: Mapping[str, str]) -> list[Silence]:
        """The silences that mute an alert with these labels now, even if no such alert exists."""
        peers = await self._all("/api/v2/silences", [], _SILENCES)
        try:
            return list(
                {silence.id: silence for peer in peers for silence in peer if silence.silences(labels)}.values()
            )
        except ValueError as e:
            raise Unavailable(f"a silence in Alertmanager cannot be read: {e}") from e

    async def keep_silences(
        self, silences: Sequence[NewSilence], live: Callable[[str], bool], author: str
    ) -> list[str]:
        """Creates missing silences and expires the author's others, on every peer separately.

        The comment identifies a silence: an existing one, even expired, is never created again. `live` returns
        whether the silence with that comment stays. Returns one sentence per action. Raises Unavailable if a peer does
        not answer; the actions on other peers remain, and the next call continues.
        """
        done = []
        for base in (str(url).rstrip("/") for url in self._settings.urls):
            own = [s for s in await self._get(f"{base}/api/v2/silences", [], _SILENCES) if s.created_by == author]
            existing = {silence.comment for silence in own}
            for new in silences:
                if new.comment not in existing:
                    await self._request("POST", f"{base}/api/v2/silences", json=new.posted(author))
                    done.append(f"silenced: {new.comment}")
            for old in own:
                if old.state != "expired" and not live(old.comment):
                    await self._request("DELETE", f"{base}/api/v2/silence/{quote(old.id, safe='')}")
                    done.append(f"expired: {old.comment}")
        return done

    async def _all(self, path: str, query: list[tuple[str, str]], read: Callable[[bytes], T]) -> list[T]:
        return await _answered(self._get(url, query, read) for url in self._urls(path))

    def _urls(self, path: str) -> list[str]:
        return [str(url).rstrip("/") + path for url in self._settings.urls]

    async def _get(self, url: str, query: list[tuple[str, str]], read: Callable[[bytes], T]) -> T:
        body = await self._request("GET", url, params=query)
        try:
            return read(body) if len(body) < _OFF_THE_LOOP else await asyncio.to_thread(read, body)
        except ValueError:
            raise _unexpected(url, body) from None

    async def _request(self, method: str, url: str, **options: Any) -> bytes:
        answer = await self._http.send(method, url, shown=url, **options)
        if answer.status != 200:
            raise _wrong_status(url, answer.status, answer.body)
        return answer.body


async def _answered(requests: Iterable[Awaitable[T]]) -> list[T]:
    """The answers of all peers that answered. Raises Unavailable if none did."""
    answers = await asyncio.gather(*requests, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, Unavailable):
            raise answer
    good = [a for a in answers if not isinstance(a, BaseException)]
    if not good:
        raise Unavailable("no Alertmanager answered: " + "; ".join(str(a) for a in answers))
    return good


def _wrong_status(url: str, status: int, body: bytes) -> Unavailable:
    return Unavailable(f"{url} answered {status}: {_shown(body)}")


def _unexpected(url: str, body: bytes) -> Unavailable:
    return Unavailable(f"{url} answered 200 with an unexpected body: {_shown(body)}")


def _shown(body: bytes) -> str:
    """A body for an error message; a proxy may have written it."""
    return one_line(body.decode(errors="replace").strip(), 200) or "(nothing)"

"""The live alerts in one answer of Alertmanager. Many decisions share it, so what is derived from it is kept."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Collection, Iterable, Iterator
from datetime import datetime
from hashlib import blake2b
from typing import Any, Literal, NamedTuple, NotRequired, TypeVar

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from responder.backends.alertmanager.alerts import Alert, Timestamp
from responder.transport.turns import Turn

State = Literal["active", "suppressed", "unprocessed"]
T = TypeVar("T")


class LiveAlert(NamedTuple):
    """The live state of one alert."""

    fingerprint: str
    state: State
    labels: dict[str, str]
    starts_at: datetime | None = None
    silenced_by: tuple[str, ...] = ()
    inhibited_by: tuple[str, ...] = ()

    def as_alert(self, now: datetime) -> Alert:
        """The alert in the form of a webhook body."""
        return Alert(status="firing", labels=self.labels, starts_at=self.starts_at or now, fingerprint=self.fingerprint)


class LiveAlerts:
    """Alerts by fingerprint. Of several with one fingerprint, a suppressed one counts."""

    def __init__(self, alerts: Iterable[LiveAlert]) -> None:
        self._found: dict[str, LiveAlert] = {}
        for alert in alerts:
            if alert.fingerprint not in self._found or alert.state == "suppressed":
                self._found[alert.fingerprint] = alert
        self._derived: tuple[object, Any] = (None, None)

    def __iter__(self) -> Iterator[LiveAlert]:
        return iter(self._found.values())

    def __len__(self) -> int:
        return len(self._found)

    def with_fingerprints(self, fingerprints: Collection[str]) -> list[LiveAlert]:
        """The alerts with these fingerprints."""
        return [self._found[fingerprint] for fingerprint in fingerprints if fingerprint in self._found]

    def derived(self, source: object, derive: Callable[[LiveAlerts], T]) -> T:
        """What `derive` makes of the alerts and of `source`. It is kept for the next caller with the same source."""
        known, value = self._derived
        if known is not source:
            value = derive(self)
            self._derived = (source, value)
        found: T = value
        return found


class _Status(TypedDict):
    state: State
    silencedBy: tuple[str, ...]
    inhibitedBy: tuple[str, ...]


class _Raw(TypedDict):
    """The fields of an alert of API v2 that decisions need. The others are not read."""

    fingerprint: str
    labels: NotRequired[dict[str, str]]
    startsAt: NotRequired[Timestamp]
    status: _Status


_RAW = TypeAdapter(list[_Raw])

_PART = 1 << 16
"""Bytes that are parsed at once, which takes less than a millisecond."""

_FIRST, _BETWEEN, _LAST = b'[{"annotations":', b'},{"annotations":', b"}]"
"""The JSON array is cut in between. No JSON string contains that: a quotation mark in a string follows a backslash."""


class AlertQuery:
    """Reads what the peers answer to one query of API v2, many times. What did not change is not parsed again.

    In a storm thousands of alerts are queried many times a second, and few of them change in between.
    """

    def __init__(self) -> None:
        self._known: dict[str, dict[bytes, LiveAlert]] = {}
        self._peers: list[list[LiveAlert]] = []
        self._alerts = LiveAlerts(())

    def of(self, peers: list[list[LiveAlert]]) -> LiveAlerts:
        """The alerts in the answers of all peers: the same object as long as nothing changes."""
        if peers != self._peers:
            self._peers, self._alerts = peers, LiveAlerts(alert for peer in peers for alert in peer)
        return self._alerts

    async def read(self, peer: str, chunks: AsyncIterable[bytes]) -> list[LiveAlert]:
        """The alerts in an answer of this peer. Raises ValueError.

        Thousands of alerts are megabytes. They are parsed while they arrive, and other tasks run in between: all at
        once would stop the event loop, even in a thread, because the parser holds the interpreter lock.
        """
        known, seen = self._known.get(peer, {}), dict[bytes, LiveAlert]()
        alerts, rest, turn = list[LiveAlert](), bytearray(), Turn()
        async for chunk in chunks:
            rest += chunk
            if len(rest) >= _PART and (end := rest.rfind(_BETWEEN)) >= 0:
                alerts += _parsed(bytes(rest[: end + 1]) + b"]", known, seen)
                rest[: end + 2] = b"["
                await turn.pass_on()
        alerts += _parsed(bytes(rest), known, seen)
        self._known[peer] = seen
        return alerts


def _parsed(array: bytes, known: dict[bytes, LiveAlert], seen: dict[bytes, LiveAlert]) -> list[LiveAlert]:
    """The alerts in the array. Those that are not `known` by the digest of their text are parsed; all become `seen`."""
    array = array.strip()
    if not (array.startswith(_FIRST) and array.endswith(_LAST)):
        return _validated(array)
    texts = array[len(_FIRST) : -len(_LAST)].split(_BETWEEN)
    digests = [blake2b(text, digest_size=16).digest() for text in texts]
    new = {digest: text for digest, text in zip(digests, texts, strict=True) if digest not in known}
    if new:
        parsed = _validated(_FIRST + _BETWEEN.join(new.values()) + _LAST)
        if len(parsed) != len(new):
            return _validated(array)  # a proxy has written it in another layout
        known = known | dict(zip(new, parsed, strict=True))
    seen.update((digest, known[digest]) for digest in digests)
    return [known[digest] for digest in digests]


def _validated(array: bytes) -> list[LiveAlert]:
    return [_live(raw) for raw in _RAW.validate_json(array)]


def _live(raw: _Raw) -> LiveAlert:
    status = raw["status"]
    return LiveAlert(
        raw["fingerprint"],
        status["state"],
        raw.get("labels", {}),
        raw.get("startsAt"),
        status["silencedBy"],
        status["inhibitedBy"],
    )

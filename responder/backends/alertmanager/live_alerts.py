"""The live alerts in one answer of Alertmanager. Many decisions share it, so what is derived from it is kept."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import datetime
from typing import Any, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, Field

from responder.backends.alertmanager.alerts import Alert, Timestamp

State = Literal["active", "suppressed", "unprocessed"]
T = TypeVar("T")

_DECODER = json.JSONDecoder()
_BETWEEN = re.compile(r"\s*([\[\],])\s*")


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


class _Status(BaseModel):
    state: State
    silenced_by: tuple[str, ...] = Field(alias="silencedBy")
    inhibited_by: tuple[str, ...] = Field(alias="inhibitedBy")


class _Raw(BaseModel):
    """An alert in the format of API v2."""

    fingerprint: str
    labels: dict[str, str] = Field(default_factory=dict)
    starts_at: Timestamp | None = Field(default=None, alias="startsAt")
    status: _Status


def read_alerts(body: bytes) -> list[LiveAlert]:
    """The alerts in an answer of API v2. Raises ValueError.

    It decodes one alert after the other: the decoder holds the interpreter lock, and all at once would stop the event
    loop for a tenth of a second, even if called in a thread.
    """
    return [_live(_Raw.model_validate(item)) for item in _items(body.decode())]


def _live(raw: _Raw) -> LiveAlert:
    status = raw.status
    return LiveAlert(raw.fingerprint, status.state, raw.labels, raw.starts_at, status.silenced_by, status.inhibited_by)


def _items(text: str) -> Iterator[Any]:
    """The items of a JSON array."""
    found = _BETWEEN.match(text)
    if not found or found[1] != "[":
        raise ValueError("not a JSON array")
    if text.startswith("]", found.end()):
        return
    while found and found[1] != "]":
        item, end = _DECODER.raw_decode(text, found.end())
        yield item
        found = _BETWEEN.match(text, end)
    if not found:
        raise ValueError("the JSON array does not end")

"""In-process Alertmanager, Prometheus and resources: firing alerts, silences and health."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from responder.backends.alertmanager.alerts import fingerprint
from responder.backends.alertmanager.client import NewSilence, Silence
from responder.backends.alertmanager.live_alerts import LiveAlert, LiveAlerts
from responder.backends.alertmanager.matchers import Matcher, all_match
from responder.backends.host.client import Local
from responder.backends.prometheus.client import Sample
from responder.errors import Unavailable

P = ParamSpec("P")
T = TypeVar("T")

# Strict: rejects a label that breaks out of its quotes.
_SELECTOR = re.compile(r'([\w:]+)\{((?:\w+="(?:[^"\\\n]|\\.)*",?)*)\}')
_LABEL = re.compile(r'(\w+)="((?:[^"\\\n]|\\.)*)"')


@dataclass
class FiringAlert:
    """One alert, from the time its expression became true until it became false."""

    labels: dict[str, str]
    annotations: dict[str, str]
    active_at: datetime
    starts_at: datetime
    ends_at: datetime | None = None
    ahead: timedelta = timedelta()  # how far Prometheus' clock is ahead of the responder's

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.labels)

    def fires_at(self, when: datetime) -> bool:
        return self.starts_at - self.ahead <= when and (self.ends_at is None or when < self.ends_at)

    def sent(self) -> dict[str, Any]:
        """The alert as in a webhook body of Alertmanager."""
        return {
            "status": "resolved" if self.ends_at else "firing",
            "labels": self.labels,
            "annotations": self.annotations,
            "startsAt": self.starts_at.isoformat(),
            "endsAt": (self.ends_at or datetime(1, 1, 1, tzinfo=UTC)).isoformat(),
            "generatorURL": "",
            "fingerprint": self.fingerprint,
        }


@dataclass
class PlacedSilence:
    """A silence of the responder or of an engineer."""

    id: str
    matchers: tuple[Matcher, ...]
    by: str
    comment: str
    ends_at: datetime


@dataclass
class Surroundings:
    """The state of Alertmanager and Prometheus; each can be down."""

    down: set[str] = field(default_factory=set)
    fired: list[FiringAlert] = field(default_factory=list)
    silences: list[PlacedSilence] = field(default_factory=list)
    series: dict[str, Callable[[dict[str, str], datetime], list[Sample]]] = field(default_factory=dict)
    inhibited: list[tuple[Matcher, ...]] = field(default_factory=list)

    def firing(self) -> list[FiringAlert]:
        return [alert for alert in self.fired if alert.fires_at(datetime.now(UTC))]

    def silenced_by(self, labels: dict[str, str]) -> tuple[str, ...]:
        now = datetime.now(UTC)
        return tuple(s.id for s in self.silences if now < s.ends_at and all_match(s.matchers, labels))

    def inhibited_by(self, labels: dict[str, str]) -> tuple[str, ...]:
        return tuple("0123456789abcdef" for matchers in self.inhibited if all_match(matchers, labels))

    def muted(self, labels: dict[str, str]) -> bool:
        return bool(self.silenced_by(labels) or self.inhibited_by(labels))


class FakeAlertmanager:
    """The methods of the client, answered from the scenario."""

    def __init__(self, outside: Surroundings) -> None:
        self._outside = outside

    async def alerts(self, labels: dict[str, str]) -> LiveAlerts:
        self._up()
        return LiveAlerts(
            LiveAlert(
                fingerprint=alert.fingerprint,
                state="suppressed" if self._outside.muted(alert.labels) else "active",
                labels=alert.labels,
                starts_at=alert.starts_at,
                silenced_by=self._outside.silenced_by(alert.labels),
                inhibited_by=self._outside.inhibited_by(alert.labels),
            )
            for alert in self._outside.firing()
            if labels.items() <= alert.labels.items()
        )

    async def silence(self, silence_id: str) -> Silence:
        self._up()
        found = next(s for s in self._outside.silences if s.id == silence_id)
        return Silence(id=found.id, createdBy=found.by, comment=found.comment)

    async def silencing(self, labels: Mapping[str, str]) -> list[Silence]:
        self._up()
        return [await self.silence(silence_id) for silence_id in self._outside.silenced_by(dict(labels))]

    async def keep_silences(self, wanted: Sequence[NewSilence], live: Callable[[str], bool], author: str) -> list[str]:
        self._up()
        own = [s for s in self._outside.silences if s.by == author]
        for new in wanted:
            if all(s.comment != new.comment for s in own):
                made = PlacedSilence(
                    f"own-{len(self._outside.silences)}", new.matchers, author, new.comment, new.ends_at
                )
                self._outside.silences.append(made)
        for old in own:
            if not live(old.comment):
                old.ends_at = min(old.ends_at, datetime.now(UTC))
        return []

    async def close(self) -> None:
        """Does nothing: no connection is open."""

    def _up(self) -> None:
        if "alertmanager" in self._outside.down:
            raise Unavailable("no Alertmanager answered")


_MARKED = re.compile(r'label_replace\((.*), "question", "(\w+)", "", ""\)', re.DOTALL)
_AT = re.compile(r"(.*) @ ([\d.]+)", re.DOTALL)
_TIMESTAMP = re.compile(r"timestamp\((.*)\)", re.DOTALL)


class FakePrometheus:
    """Instant queries of plain selectors, at any time: all that the responder and the scenarios query."""

    def __init__(self, outside: Surroundings) -> None:
        self._outside = outside

    async def query(self, promql: str, *, at: datetime | None = None) -> list[Sample]:
        if "prometheus" in self._outside.down:
            raise Unavailable("Prometheus did not answer")
        found = []
        for part in re.split(r" or (?=label_replace\(|service_environment:trouble|time\(\) - )", promql):
            marked = _MARKED.fullmatch(part)
            marks = {"question": marked[2]} if marked else {}
            found += [
                Sample(labels={**sample.labels, **marks}, value=sample.value)
                for sample in self._evaluate(marked[1] if marked else part, at or datetime.now(UTC))
            ]
        return found

    def _evaluate(self, promql: str, when: datetime) -> list[Sample]:
        if promql == "vector(time())":
            return [Sample(labels={}, value=when.timestamp())]
        if found := _AT.fullmatch(promql):
            return self._select(found[1], datetime.fromtimestamp(float(found[2]), UTC))
        if promql.startswith("time() - "):
            return [
                Sample(labels=sample.labels, value=when.timestamp() - sample.value)
                for sample in self._evaluate(promql.removeprefix("time() - "), when)
            ]
        if found := _TIMESTAMP.fullmatch(promql):  # rules are evaluated continuously
            return [Sample(labels=sample.labels, value=when.timestamp()) for sample in self._select(found[1], when)]
        return self._select(promql, when)

    def _select(self, selector: str, when: datetime) -> list[Sample]:
        found = _SELECTOR.fullmatch(selector)
        assert found, f"a scenario queries one selector at a time, not {selector}"
        name, wanted = found[1], {n: _plain(v) for n, v in _LABEL.findall(found[2])}
        if name in self._outside.series:
            return [
                Sample(labels={"__name__": name, **sample.labels}, value=sample.value)
                for sample in self._outside.series[name](wanted, when)
            ]
        state = {"alertstate": wanted.pop("alertstate", "firing")}
        alerts = [
            alert for alert in self._outside.fired if wanted.items() <= alert.labels.items() and alert.fires_at(when)
        ]
        if name == "ALERTS":
            return [Sample(labels={"__name__": name, **alert.labels, **state}, value=1.0) for alert in alerts]
        assert name == "ALERTS_FOR_STATE", f"unknown series {name}"
        return [Sample(labels=alert.labels, value=alert.active_at.timestamp()) for alert in alerts]

    async def close(self) -> None:
        """Does nothing: no connection is open."""


class FlakyHost(Local):
    """The files of this host, which can be unavailable for a while."""

    def __init__(self, outside: Surroundings) -> None:
        self._outside = outside

    async def look(self, at: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        self._up()
        return await super().look(at, *args, **kwargs)

    async def text(self, file: Path) -> str | None:
        self._up()
        return await super().text(file)

    async def switch_link(self, link: Path, target: Path) -> None:
        await super().switch_link(link, target)
        if "resources after a write" in self._outside.down:
            self._outside.down |= {"resources"}

    def _up(self) -> None:
        if "resources" in self._outside.down:
            raise Unavailable("the host did not answer")


def _plain(escaped: str) -> str:
    return re.sub(r"\\(.)", lambda found: {"n": "\n"}.get(found[1], found[1]), escaped)

"""The decisive series around the onset: which queries they are, and their values as data and as a plot."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from responder.backends.alertmanager.alerts import Alert
from responder.backends.prometheus.client import Prometheus, Series, TooMuch
from responder.backends.prometheus.promql_check import PromqlCheck
from responder.decisions.policies import Policy
from responder.evidence.plots import MOST_LINES, PlotLine, PlotMark, plot
from responder.services.service import Service
from responder.transport.daemon_threads import in_daemon

_MOST_QUERIES = 12
_MOST_SERIES = 200
_LONGEST = 4096
_POINTS = (240, 30, 6)
"""Points per series: fewer if the response of Prometheus is too large."""
_BEFORE = timedelta(minutes=30)
_LONGEST_TITLE = 90
_LONGEST_LEGEND = 60


class Query(NamedTuple):
    """A PromQL expression, and where it comes from."""

    name: str
    promql: str


def queries_of(services: Sequence[Service], policy: Policy, alerts: Iterable[Alert]) -> list[Query]:
    """The queries of the policy, of the alerts and of the health checks, without duplicates."""
    found = [Query("policy", policy.expression)] if policy.expression else []
    found += [Query(f"alert {a.name}", promql) for a in alerts if (promql := expression_of(a.generator_url))]
    checks = [check for service in services for check in service.health_checks]
    found += [Query(f"health_checks[{i}]", c.promql) for i, c in enumerate(checks) if isinstance(c, PromqlCheck)]
    once = {query.promql: query for query in reversed(found)}
    return [query for query in found if once[query.promql] is query][:_MOST_QUERIES]


def expression_of(generator_url: str) -> str:
    """The PromQL in a link to the graph page of Prometheus; empty if there is none. The link is never followed."""
    try:
        expression = parse_qs(urlsplit(generator_url).query).get("g0.expr", [""])[0]
    except ValueError:
        return ""
    return expression if len(expression) <= _LONGEST else ""


async def look_back(
    prometheus: Prometheus, query: Query, *, onset: datetime, now: datetime, marks: Iterable[PlotMark]
) -> list[tuple[str, bytes]]:
    """The values from half an hour before the onset until now, as suffix and content of each file."""
    start = onset - _BEFORE
    for points in _POINTS:
        step = max(round((now - start).total_seconds() / points), 5)
        try:
            found = await prometheus.range(query.promql, start, now, float(step))
            break
        except TooMuch:
            if points == _POINTS[-1]:
                raise
    # In a thread: the plot library takes long to import, and many series take long to draw.
    return await in_daemon(_files, query, found, list(marks), start, now, step)


def _files(
    query: Query, found: list[Series], marks: list[PlotMark], start: datetime, now: datetime, step: int
) -> list[tuple[str, bytes]]:
    data = {
        "name": query.name,
        "promql": query.promql,
        "from": start.isoformat(),
        "to": now.isoformat(),
        "step_seconds": step,
        "marks": {mark.name: mark.at.isoformat() for mark in marks},
        "series_in_all": len(found),
        "series": [
            {"labels": series.labels, "points": [_point(*p) for p in series.points]} for series in found[:_MOST_SERIES]
        ],
    }
    files = [("json", json.dumps(data, indent=1).encode())]
    if shown := most_changing(found, MOST_LINES):
        with contextlib.suppress(ArithmeticError, ValueError):  # values that cannot be drawn are in the data
            more = f" ({len(shown)} of {len(found)} series)" if len(shown) < len(found) else ""
            title = _short(f"{query.name}: {query.promql}", _LONGEST_TITLE) + more
            lines = [PlotLine(name=_legend(series), points=_dated(series)) for series in shown]
            drawn = plot(title, lines, marks, start, now, step=float(step))
            files.append(("svg", drawn.encode()))
    return files


def _dated(series: Series) -> tuple[tuple[datetime, float], ...]:
    return tuple((datetime.fromtimestamp(at, UTC), value) for at, value in series.points if is_number(value))


def _legend(series: Series) -> str:
    name = series.labels.get("__name__", "")
    labels = ", ".join(f"{k}={v}" for k, v in series.labels.items() if k != "__name__")
    return _short(f"{name}{{{labels}}}" if labels else name or "value", _LONGEST_LEGEND)


def _short(text: str, most: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _point(at: float, value: float) -> list[Any]:
    # As text, like Prometheus: JSON has no NaN and no infinity.
    return [datetime.fromtimestamp(at, UTC).isoformat(), repr(value)]


def most_changing(found: list[Series], most: int) -> list[Series]:
    """The series with the largest change: a hundred flat lines need no plot."""

    def spread(series: Series) -> float:
        values = [value for _, value in series.points if is_number(value)]
        return max(values) - min(values)

    with_values = [series for series in found if any(is_number(value) for _, value in series.points)]
    return sorted(with_values, key=spread, reverse=True)[:most]


def is_number(value: float) -> bool:
    return value - value == 0  # neither NaN nor infinity

"""The series that decided: which queries they are, and what they were around the onset, as data and as a small plot."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from responder.alerts import Alert
from responder.checks import PromqlCheck
from responder.clients.prometheus import Prometheus, Series
from responder.policies import Policy
from responder.services import Service

_MOST_QUERIES = 12
_MOST_SERIES = 200
_LONGEST = 4096
_POINTS = 240
_BEFORE = timedelta(minutes=30)


class Query(NamedTuple):
    """A PromQL expression, and whose it is."""

    name: str
    promql: str


class Mark(NamedTuple):
    """A moment that the plot shows."""

    name: str
    at: datetime


def queries_of(service: Service | None, policy: Policy, alerts: Iterable[Alert]) -> list[Query]:
    """The policy's, those behind the alerts, and those of the service's health; each once."""
    found = [Query("policy", policy.expression)] if policy.expression else []
    found += [Query(f"alert {a.name}", promql) for a in alerts if (promql := expression_of(a.generator_url))]
    checks = service.healthy if service else ()
    found += [Query(f"healthy[{i}]", c.promql) for i, c in enumerate(checks) if isinstance(c, PromqlCheck)]
    once = {query.promql: query for query in reversed(found)}
    return [query for query in found if once[query.promql] is query][:_MOST_QUERIES]


def expression_of(generator_url: str) -> str:
    """What a link to Prometheus' graph page shows; empty where it is none. The link itself is never followed."""
    try:
        told = parse_qs(urlsplit(generator_url).query).get("g0.expr", [""])[0]
    except ValueError:
        return ""
    return told if len(told) <= _LONGEST else ""


async def look_back(
    prometheus: Prometheus, query: Query, *, onset: datetime, now: datetime, marks: Iterable[Mark]
) -> list[tuple[str, bytes]]:
    """What the query was from half an hour before the onset until now: suffix and content of the files."""
    start = onset - _BEFORE
    step = max(round((now - start).total_seconds() / _POINTS), 5)
    found = await prometheus.range(query.promql, start, now, float(step))
    data = {
        "name": query.name,
        "promql": query.promql,
        "from": start.isoformat(),
        "to": now.isoformat(),
        "step_seconds": step,
        "marks": {mark.name: mark.at.isoformat() for mark in marks},
        "series_in_all": len(found),
        "series": [{"labels": one.labels, "points": [_point(*p) for p in one.points]} for one in found[:_MOST_SERIES]],
    }
    files = [("json", json.dumps(data, indent=1).encode())]
    if found:
        from responder.evidence.plot import plot  # pygal takes a while to be imported: not at our start

        files.append(("svg", await asyncio.to_thread(plot, query.name, query.promql, found, list(marks), start, now)))
    return files


def _point(at: float, value: float) -> list[Any]:
    # JSON has no NaN and no infinity: as Prometheus itself writes them.
    return [datetime.fromtimestamp(at, UTC).isoformat(), repr(value)]


def worth_a_look(found: list[Series], most: int) -> list[Series]:
    """Those that change most: of a hundred flat lines nobody needs a picture."""

    def spread(one: Series) -> float:
        values = [value for _, value in one.points if value - value == 0]
        return max(values) - min(values) if values else -1.0

    return sorted(found, key=spread, reverse=True)[:most]

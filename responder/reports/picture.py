"""Draws the decisive series of a rollback, from Prometheus."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from responder.backends.connections import Connections
from responder.backends.prometheus.client import Prometheus, Series
from responder.backends.prometheus.promql_check import PromqlCheck
from responder.decisions.policy_set import PolicySet
from responder.errors import Unknown
from responder.evidence.plots import MOST_LINES, PlotLine, PlotMark, plot
from responder.reports.record import PostMortem, Window
from responder.transport.daemon_threads import in_daemon

_POINTS = 300
_ROOM = 0.15


async def draw(postmortem: PostMortem, policy_set: PolicySet, connections: Connections, now: datetime) -> str:
    """The plot as SVG. Raises Unknown if no PromQL is configured for it, and the errors of Prometheus."""
    query = deciding(postmortem, policy_set)
    start, end = span(postmortem.window, now)
    step = max((end - start).total_seconds() / _POINTS, 1.0)
    prometheus = await connections.to(Prometheus)
    everything = await prometheus.range(query, start, end, step)

    def work() -> str:
        found = [series for series in everything if _concerns(series, postmortem)]
        shown = [PlotLine(name=_name(series, found, query), points=_dated(series)) for series in found[:MOST_LINES]]
        rest = [PlotLine(name="", points=())] * (len(found) - len(shown))  # only counted
        return plot(query, [*shown, *rest], marks(postmortem), start, end, step=step)

    return await in_daemon(work)  # in a thread, because drawing must not delay rollbacks


def deciding(postmortem: PostMortem, policy_set: PolicySet) -> str:
    """The expression of the policy, or the first PromQL check of the service. Raises Unknown."""
    policy = next((known for known in policy_set.policies if known.name == postmortem.policy), None)
    if policy and policy.expression:
        return policy.expression
    service, _ = policy_set.service(postmortem.service, postmortem.environment)
    checks = (*service.health_checks, *service.traffic_checks) if service else ()
    if query := next((check.promql for check in checks if isinstance(check, PromqlCheck)), ""):
        return query
    raise Unknown(
        f"no plot: neither policy {postmortem.policy} nor service {postmortem.service} has PromQL in the configuration"
    )


def span(window: Window, now: datetime) -> tuple[datetime, datetime]:
    """The time range from the deployment, if it was recent, until the end, with a margin on both sides."""
    end = window.ended_at or now
    began = min(at for at in (window.onset_at, window.firing_at, window.received_at) if at)
    long_ago = began - max(timedelta(minutes=15), end - began)
    if window.deployed_at and long_ago <= window.deployed_at < began:
        began = window.deployed_at
    room = max((end - began) * _ROOM, timedelta(seconds=30))
    return began - room, min(end + room, now)


def marks(postmortem: PostMortem) -> list[PlotMark]:
    window = postmortem.window
    ended = "verified" if postmortem.outcome == "succeeded" else "ended"
    moments = (
        (f"deployed {postmortem.from_version}", window.deployed_at),
        ("onset", window.onset_at),
        ("firing", window.firing_at),
        ("acted", window.acted_at),
        (ended, window.ended_at),
    )
    return [PlotMark(name=name, at=at) for name, at in moments if at]


def _concerns(series: Series, postmortem: PostMortem) -> bool:
    where = {"service": postmortem.service, "environment": postmortem.environment}
    return all(series.labels.get(name, value) == value for name, value in where.items())


def _dated(series: Series) -> tuple[tuple[datetime, float], ...]:
    return tuple((datetime.fromtimestamp(at, UTC), value) for at, value in series.points)


def _name(series: Series, every: Sequence[Series], query: str) -> str:
    """The labels in which a series differs from the others."""
    differ = {n: v for n, v in series.labels.items() if any(other.labels.get(n) != v for other in every)}
    return ", ".join(f"{name}={json.dumps(value)}" for name, value in sorted(differ.items())) or query

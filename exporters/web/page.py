"""The status page: the last result of every check. All values are escaped."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from string import Template
from urllib.parse import quote

from exporters.history import History
from exporters.probes.check import Check
from exporters.runner import Result
from foundation.durations import format_duration

PAGE = Template(files("exporters.web").joinpath("page.html").read_text(encoding="utf-8"))


class Markup(str):
    """Text that is HTML."""

    __slots__ = ()


def fill(template: str, **values: object) -> Markup:
    """Returns the template with its `{names}` filled in. Values that are not Markup are escaped."""
    return Markup(template.format_map({k: v if isinstance(v, Markup) else escape(str(v)) for k, v in values.items()}))


def overview(checks: Iterable[Check], history: History, now: float) -> str:
    """Returns the page of all checks, failing ones first. `now` is Unix time."""
    latest = [(check, history.latest(check.id)) for check in checks]
    latest.sort(key=lambda pair: (pair[1] is None, pair[1] is not None and pair[1].success))
    failing = sum(1 for _, result in latest if result is not None and not result.success)
    pending = sum(1 for _, result in latest if result is None)
    content = fill(
        "<p>Checks: {total}, {failing} failing, {pending} not probed yet. Each scrape by Prometheus is one probe.</p>"
        '<nav><a href="/metrics">/metrics</a> <a href="/sd">/sd</a> <a href="/-/ready">/-/ready</a></nav>'
        '<div class="sheet"><table><tr><th>Last result<th>Check<th>Service<th>Environment<th>Type<th>Duration<th>Age'
        "<th>Reason<th></tr>{rows}</table></div>",
        total=len(latest),
        failing=failing,
        pending=pending,
        rows=Markup("\n".join(_row(check, result, now) for check, result in latest)),
    )
    return PAGE.substitute(title="Exporters", content=content)


def detail(check: Check, target: str, results: list[Result], now: float) -> str:
    """Returns the page of one check: its target without secrets, and the log of recent probes, latest first."""
    content = fill(
        "<p>{type} for service {service} in {environment}: {target}. Every {interval}, timeout {time_limit}.</p>"
        '<nav><a href="/">all checks</a> <a href="/probe?check={id}&amp;debug=true">probe now</a></nav>{results}',
        type=check.type,
        service=check.service,
        environment=check.environment,
        target=target,
        interval=format_duration(check.interval),
        time_limit=format_duration(check.time_limit),
        id=quote(check.id),
        results=Markup("\n".join(_result(result, now) for result in results))
        or Markup("<p>Not probed yet. Failures are kept longer than successes.</p>"),
    )
    return PAGE.substitute(title=escape(check.id), content=content)


def _row(check: Check, result: Result | None, now: float) -> Markup:
    return fill(
        "<tr><td>{state}<td>{id}<td>{service}<td>{environment}<td class=soft>{type}<td class=number>{duration}"
        '<td class=number>{age}<td class=why>{why}<td><a href="/?check={quoted}">log</a></tr>',
        state=_state(result),
        id=check.id,
        service=check.service,
        environment=check.environment,
        type=check.type,
        duration="" if result is None else f"{result.duration * 1000:.1f} ms",
        age="" if result is None else _age(now - result.at),
        why="" if result is None else result.why,
        quoted=quote(check.id),
    )


def _result(result: Result, now: float) -> Markup:
    return fill(
        "<h2>{state} {age} ago</h2><div class=sheet><div class=soft>{at}, took {duration} ms of {allowed} s</div>"
        "<pre>{log}</pre></div>",
        state=_state(result),
        age=_age(now - result.at),
        at=datetime.fromtimestamp(result.at, UTC).isoformat(timespec="seconds"),
        duration=f"{result.duration * 1000:.1f}",
        allowed=f"{result.allowed:g}",
        log=log_text(result),
    )


def log_text(result: Result) -> str:
    """Returns the log of a probe as lines of milliseconds and text."""
    return "\n".join(f"{seconds * 1000:9.1f} ms  {text}" for seconds, text in result.log)


def _state(result: Result | None) -> Markup:
    if result is None:
        return Markup('<span class="state none">pending</span>')

    if result.success:
        return Markup('<span class="state good">ok</span>')
    return fill('<span class="state bad">failed: {reason}</span>', reason=result.reason)


def _age(seconds: float) -> str:
    seconds = max(0.0, seconds)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"

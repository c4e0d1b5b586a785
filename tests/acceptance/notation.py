"""A scenario is a list of lines: the time, an action, and what must be observed then.

It follows Alertmanager's acceptance tests:

    await play(
        stage,
        deploy(at(0), "2"),
        push(at(1), alert()),
        expect(between(1, 60), outcome("succeeded")),
    )

Times are seconds since the start of the scenario. `at(2)` is not before second 2, and never before the previous line is
done, however slow the machine is. `between(2, 60)` checks from second 2 on, until it is true, for at most 58 seconds.
`throughout(between(2, 5), ...)` must be true at every check. A failure shows the complete scenario with its real times.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal as signals
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp

from tests import parts
from tests.acceptance.sights import Expectation
from tests.acceptance.stage import BAD, Installation

Do = Callable[[Installation], Awaitable[str | None]]
"""Acts on the stage; returns text for the history."""


# --- time -------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Moment:
    """Not before `second`, and at least `pause` after the previous line."""

    second: float = 0.0
    pause: float = 0.0


@dataclass(frozen=True)
class Span:
    """Seconds from and to."""

    start: float
    end: float


def at(second: float) -> Moment:
    return Moment(second=second)


def after(pause: float) -> Moment:
    """That many seconds after the previous line."""
    return Moment(pause=pause)


def between(start: float, end: float) -> Span:
    return Span(start, end)


at_once = Moment()
"""As soon as the previous line is done."""

soon = between(0, 60)
"""Within a minute: the machine is shared, and speed is measured elsewhere."""


# --- actions ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Act:
    """One line of a scenario."""

    title: str
    moment: Moment
    do: Do


@dataclass(frozen=True)
class Alert:
    """An alert by its labels."""

    labels: tuple[tuple[str, str], ...]


def alert(name: str = "ShopBroken", **labels: str) -> Alert:
    """An alert of the shop in production."""
    return Alert(tuple({"alertname": name, "service": "shop", "environment": "production", **labels}.items()))


def deploy(moment: Moment, version: str = BAD, *, healthy: bool = False) -> Act:
    """A pipeline deploys a release: it reports it, switches the link and restarts the service."""

    async def do(stage: Installation) -> None:
        stage.shop.release(version, healthy=healthy)
        await stage.deployed(version)
        await stage.shop.switch(version)

    return Act(f"deploy {version}", moment, do)


def push(moment: Moment, pushed: Alert) -> Act:
    """Sends it to every Alertmanager, with the same time."""
    return Act("push", moment, lambda stage: stage.alert(dict(pushed.labels)))


def resolve(moment: Moment, pushed: Alert) -> Act:
    return Act("resolve", moment, lambda stage: stage.alert(dict(pushed.labels), over=True))


def silence(moment: Moment, what: Alert, *, by: str, comment: str) -> Act:
    """Creates it in every Alertmanager, as `amtool silence add` does."""

    async def do(stage: Installation) -> None:
        for alertmanager in stage.alertmanagers:
            await alertmanager.silence(dict(what.labels), author=by, comment=comment)

    return Act(f"silence by {by}", moment, do)


def expire_silences(moment: Moment) -> Act:
    async def do(stage: Installation) -> None:
        for alertmanager in stage.alertmanagers:
            for active in await parts._call("GET", f"{alertmanager.url}/api/v2/silences"):
                await alertmanager.expire(active["id"])

    return Act("expire silences", moment, do)


def post(moment: Moment, what: Alert, *, answers: set[int], times: int = 1, within: float = 60.0) -> Act:
    """Sends Alertmanager's body for the alert directly to every replica, that many times at once."""

    async def do(stage: Installation) -> str:
        body = await stage.body(dict(what.labels))
        began = time.monotonic()
        posted = [
            responder.post("/api/v1/alerts", body) for _ in range(times) for responder in stage.responders.values()
        ]
        statuses = [answer.status for answer in await asyncio.gather(*posted)]
        took = time.monotonic() - began
        summary = ", ".join(f"{statuses.count(status)} x {status}" for status in sorted(set(statuses)))
        assert set(statuses) <= answers, f"answered {summary}, expected {answers}"
        assert took < within, f"answered after {took:.1f} s"
        return summary

    return Act(f"post {times} x", moment, do)


def command(moment: Moment, *argv: str, code: int = 0) -> Act:
    """Runs a command; `{id}` and `{plan}` are those of the newest rollback."""

    async def do(stage: Installation) -> str:
        words = list(argv)
        if any("{" in word for word in argv):
            newest = (await stage.executions())[0]
            words = [word.format(id=newest["id"], plan=newest["plan_hash"]) for word in argv]
        result = await stage.responder.command(*words)
        assert result.code == code, f"exited with {result.code}, expected {code}: {result.out}{result.err}"
        assert "Traceback" not in result.err, result.err
        return f"{result.out}{result.err}".strip()

    return Act(f"responder {' '.join(argv)}", moment, do)


def start(moment: Moment, name: str = "a", *, wait: bool = True) -> Act:
    return Act(f"start {name}", moment, lambda stage: stage.responders[name].start(wait=wait))


def kill(moment: Moment, name: str = "a") -> Act:
    """As by the kernel or a power cut: without warning or cleanup."""

    async def do(stage: Installation) -> None:
        await stage.responders[name].end(signals.SIGKILL)

    return Act(f"kill {name}", moment, do)


def terminate(moment: Moment, name: str = "a", *, within: float) -> Act:
    """As systemd and Kubernetes do; it must exit with 0 in time."""

    async def do(stage: Installation) -> str:
        began = time.monotonic()
        code = await stage.responders[name].end(signals.SIGTERM, within)
        assert code == 0, f"exited with {code} after {time.monotonic() - began:.1f} s"
        return f"gone after {time.monotonic() - began:.1f} s"

    return Act(f"terminate {name}", moment, do)


def signal(moment: Moment, number: signals.Signals, name: str = "a") -> Act:
    async def do(stage: Installation) -> None:
        stage.responders[name].signal(number)

    return Act(f"{number.name} to {name}", moment, do)


def postgres_crashes(moment: Moment) -> Act:
    async def do(stage: Installation) -> None:
        assert stage.postgres is not None
        await stage.postgres.stop("immediate")

    return Act("postgres crashes", moment, do)


def postgres_starts(moment: Moment) -> Act:
    async def do(stage: Installation) -> None:
        assert stage.postgres is not None
        await stage.postgres.start()

    return Act("postgres starts", moment, do)


def do(moment: Moment, title: str, what: Do) -> Act:
    """Any other action."""
    return Act(title, moment, what)


# --- observations -----------------------------------------------------------------------------------------------------
_NOT_NOW = (aiohttp.ClientError, TimeoutError, OSError, KeyError, IndexError)
"""Errors of an observation while something is down: nothing was observed."""


async def _look(stage: Installation, sight: Expectation) -> tuple[bool, str]:
    try:
        return await sight.look(stage)
    except _NOT_NOW as e:
        return False, f"{type(e).__name__}: {e}"


def expect(span: Span, *sights: Expectation) -> Act:
    """All observations are true at once within the span."""

    async def do(stage: Installation) -> str:
        # Slow actions must not use up the span: its length counts from here.
        return await _all_seen(stage, sights, until=time.monotonic() + span.end - span.start)

    return Act(f"expect {', '.join(s.title for s in sights)}", at(span.start), do)


async def _all_seen(stage: Installation, sights: tuple[Expectation, ...], *, until: float) -> str:
    while True:
        seen = [await _look(stage, sight) for sight in sights]
        if all(holds for holds, _ in seen):
            return "; ".join(what for _, what in seen)
        if time.monotonic() > until:
            wrong = [f"{s.title}: {what}" for s, (holds, what) in zip(sights, seen, strict=True) if not holds]
            raise AssertionError("not seen: " + "; ".join(wrong))
        await asyncio.sleep(0.03)


def throughout(span: Span, *sights: Expectation) -> Act:
    """All observations are true at every check, from the start of the span to its end."""

    async def do(stage: Installation) -> None:
        until = time.monotonic() + span.end - span.start
        while time.monotonic() < until:
            for sight in sights:
                holds, what = await _look(stage, sight)
                assert holds, f"{sight.title} does not hold: {what}"
            await asyncio.sleep(0.1)

    return Act(f"throughout {', '.join(s.title for s in sights)}", at(span.start), do)


# --- the scenario -----------------------------------------------------------------------------------------------------
async def play(stage: Installation, *acts: Act) -> None:
    """Runs the lines in order. Raises AssertionError with the history so far if an expectation fails."""
    began, history = time.monotonic(), []
    for act in acts:
        now = time.monotonic() - began
        await asyncio.sleep(max(act.moment.second - now, act.moment.pause, 0.0))
        started = time.monotonic() - began
        try:
            result = await act.do(stage)
        except Exception as e:
            history.append(_line(started, act.title, f"✗ {e}"))
            raise AssertionError("\n".join(["", *history, *await _epilogue(stage)])) from e
        history.append(_line(started, act.title, result or ""))
    print("\n".join(history))  # pytest shows it if the test fails later


def _line(second: float, title: str, found: str) -> str:
    return f"{second:7.2f} s  {title}" + (f"  →  {found}" if found else "")


async def _epilogue(stage: Installation) -> list[str]:
    """Diagnostics: what is recorded, and the end of every log."""
    lines = [f"shop was started as {stage.shop.versions()}"]
    with contextlib.suppress(Exception):
        for execution in await stage.executions():
            lines.append(f"{execution['id']}: {execution['state']} {execution['outcome']}: {execution['reason']}")
            lines += [f"    {event}" for event in execution["events"][1:] if event.pop("plan", True)]
    for responder in stage.responders.values():
        if responder.process:
            lines.append(responder.process.tail())
    return lines

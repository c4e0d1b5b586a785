"""Runs one check against the clock, so that a target that hangs is a failed sample and never a missing one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from itertools import chain
from time import perf_counter, time

from exporters.check import Check
from exporters.connections import Connections
from exporters.errors import Failed, Unable
from exporters.notes import Notes

KEPT_BACK = 0.5  # seconds of the scrape's timeout that are left for the answer to reach Prometheus
STALLED = 0.2  # the part of its time that a target must have lost to us before a failure is ours
TICK = 0.05  # seconds
KEEP_SUCCESSES, KEEP_FAILURES = 3, 10


class Stalls:
    """How long this event loop did not run while a probe was under way: time that the target was not given."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._lost = 0.0
        self._wind()

    def _wind(self) -> None:
        self._due = self._loop.time() + TICK
        self._next = self._loop.call_at(self._due, self._tick)

    def _tick(self) -> None:
        self._lost += max(0.0, self._loop.time() - self._due)
        self._wind()

    def stop(self) -> float:
        """The seconds lost; not to be asked twice."""
        self._next.cancel()
        return self._lost + max(0.0, self._loop.time() - self._due)


@dataclass(frozen=True)
class Result:
    """What came of one probe. Times are Unix seconds, durations seconds; `why` and `log` hold no secrets."""

    check_id: str
    success: bool
    reason: str
    why: str
    at: float
    duration: float
    allowed: float
    log: tuple[tuple[float, str], ...] = field(repr=False)


def allowed_time(patience: float, scrape_timeout: float | None) -> float:
    """Seconds that a probe may take: the check's own, and what the scrape leaves, whichever is less.

    Half a second of the scrape is kept back, or half of it when it is shorter than a second.
    """
    if scrape_timeout is None:
        return patience
    return min(patience, max(scrape_timeout - KEPT_BACK, scrape_timeout / 2))


async def run(check: Check, reach: Connections, *, scrape_timeout: float | None = None) -> tuple[Result, Notes]:
    """Probe once. Raises Unable when the fault is on this side; a bug in a probe surfaces as it is.

    Both leave `probe_success` missing instead of 0: what we did wrong must not roll anything back.
    """
    notes = Notes(reach.redact)
    allowed = allowed_time(check.patience, scrape_timeout)
    at, began = time(), perf_counter()
    failure: Failed | None = None
    clock, stalls = asyncio.timeout(allowed), Stalls()
    try:
        async with clock:
            await check.probe(notes, reach)
    except Failed as failed:
        failure = failed
    except TimeoutError:
        if not clock.expired():
            raise
        failure = Failed(f"no answer within {allowed:g} s", reason="timeout")
    finally:
        lost = stalls.stop()
    duration = perf_counter() - began
    if failure is not None and failure.reason == "timeout" and lost > STALLED * allowed:
        raise Unable(f"this exporter itself stood still for {lost:.1f} s: the target may well have answered")
    if failure is None and check.max_latency is not None and duration > check.max_latency:
        if duration - lost <= check.max_latency:
            raise Unable(
                f"this exporter itself stood still for {lost:.1f} s: the target may well have been fast enough"
            )
        failure = Failed(f"took {duration:.3f} s, wanted at most {check.max_latency:g} s", reason="latency")
    why = reach.redact(failure.why) if failure else ""
    notes.say(f"failed: {why}" if failure else "succeeded")
    reason = failure.reason if failure else ""
    notes.gauge("probe_success", "1 if the target held, 0 if not.", float(failure is None))
    notes.gauge("probe_duration_seconds", "How long the probe took.", duration)
    notes.gauge("probe_timeout_seconds", "How long the probe was allowed to take.", allowed)
    for each in chain(("timeout", "latency"), check.reasons):
        notes.gauge(f"probe_failed_due_to_{each}", f"1 if the probe failed due to {each}.", float(each == reason))
    return Result(check.id, failure is None, reason, why, at, duration, allowed, tuple(notes.lines)), notes


class History:
    """The latest results of every check; failures are kept longer, since they are what one comes to look for."""

    def __init__(self) -> None:
        self._successes: dict[str, deque[Result]] = {}
        self._failures: dict[str, deque[Result]] = {}

    def record(self, result: Result) -> bool:
        """Remember a result; True if the check turned, from success to failure or back, or failed at first."""
        before = self.latest(result.check_id)
        kept, size = (self._successes, KEEP_SUCCESSES) if result.success else (self._failures, KEEP_FAILURES)
        kept.setdefault(result.check_id, deque(maxlen=size)).append(result)
        return result.success != (True if before is None else before.success)

    def of(self, check_id: str) -> list[Result]:
        """What is remembered of a check, latest first."""
        both = chain(self._successes.get(check_id, ()), self._failures.get(check_id, ()))
        return sorted(both, key=lambda result: result.at, reverse=True)

    def latest(self, check_id: str) -> Result | None:
        """The latest result of a check, None before the first."""
        ends = [kept[check_id][-1] for kept in (self._successes, self._failures) if check_id in kept]
        return max(ends, key=lambda result: result.at, default=None)

    def forget_all_but(self, check_ids: Collection[str]) -> None:
        """Drop the checks that are no longer configured."""
        for kept in (self._successes, self._failures):
            for gone in _missing(kept, check_ids):
                del kept[gone]


def _missing(known: Iterable[str], wanted: Collection[str]) -> list[str]:
    return [check_id for check_id in known if check_id not in wanted]

"""Runs one check with a deadline: a target that hangs is a failed sample, never a missing one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from time import perf_counter, time

from exporters.clients.connections import Connections
from exporters.errors import Failed, Unable
from exporters.output import ProbeOutput
from exporters.probes.check import Check

SCRAPE_MARGIN = 0.5  # seconds of the scrape timeout that are left for the answer to reach Prometheus
STALLED = 0.2  # the share of its time that a probe must have lost to this process before a failure is not the target's
TICK = 0.05  # seconds


class StallClock:
    """Measures how long this event loop did not run: time in which the target could not answer."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._lost = 0.0
        self._schedule()

    def _schedule(self) -> None:
        self._due = self._loop.time() + TICK
        self._next = self._loop.call_at(self._due, self._tick)

    def _tick(self) -> None:
        self._lost += max(0.0, self._loop.time() - self._due)
        self._schedule()

    def stop(self) -> float:
        """Stops the clock and returns the seconds lost. Call it once."""
        self._next.cancel()
        return self._lost + max(0.0, self._loop.time() - self._due)


@dataclass(frozen=True)
class Result:
    """The result of one probe. `at` is Unix seconds, durations are seconds; `why` and `log` hold no secrets."""

    check_id: str
    success: bool
    reason: str
    why: str
    at: float
    duration: float
    allowed: float
    log: tuple[tuple[float, str], ...] = field(repr=False)


def allowed_time(time_limit: float, scrape_timeout: float | None) -> float:
    """Returns the seconds that a probe may take: its own limit, or what the scrape leaves, whichever is less.

    The scrape leaves all but half a second, or half of its timeout when that is shorter than a second.
    """
    if scrape_timeout is None:
        return time_limit
    return min(time_limit, max(scrape_timeout - SCRAPE_MARGIN, scrape_timeout / 2))


async def run(
    check: Check, connections: Connections, *, scrape_timeout: float | None = None
) -> tuple[Result, ProbeOutput]:
    """Probes once. Raises Unable if the fault is on this side. A bug in a probe surfaces unchanged.

    Both leave `probe_success` missing instead of 0: a fault of the exporter must not cause a rollback.
    """
    output = ProbeOutput(connections.redact)
    allowed = allowed_time(check.time_limit, scrape_timeout)
    at, began = time(), perf_counter()
    failure: Failed | None = None
    deadline, stalls = asyncio.timeout(allowed), StallClock()
    try:
        async with deadline:
            await check.probe(output, connections)
    except Failed as failed:
        failure = failed
    except TimeoutError:
        if not deadline.expired():
            raise
        failure = Failed(f"no answer within {allowed:g} s", reason="timeout")
    finally:
        lost = stalls.stop()
    duration = perf_counter() - began
    failure = _judge(check, failure, duration=duration, lost=lost, allowed=allowed)
    why = connections.redact(failure.why) if failure else ""
    reason = failure.reason if failure else ""
    output.log(f"failed: {why}" if failure else "succeeded")
    output.gauge("probe_success", "1 if the target passed the check, 0 if not.", float(failure is None))
    output.gauge("probe_duration_seconds", "Duration of the probe.", duration)
    output.gauge("probe_timeout_seconds", "Time that the probe was allowed to take.", allowed)
    for name in ("timeout", "latency", *check.reasons):
        output.gauge(f"probe_failed_due_to_{name}", f"1 if the probe failed due to {name}.", float(name == reason))
    return Result(check.id, failure is None, reason, why, at, duration, allowed, tuple(output.lines)), output


def _judge(check: Check, failure: Failed | None, *, duration: float, lost: float, allowed: float) -> Failed | None:
    """Returns the failure, including `latency`. Raises Unable if this process itself lost the time."""
    if failure is not None:
        if failure.reason == "timeout" and lost > STALLED * allowed:
            raise Unable(f"this exporter was stalled for {lost:.1f} s: the target may have answered in time")
        return failure
    if check.max_latency is None or duration <= check.max_latency:
        return None
    if duration - lost <= check.max_latency:
        raise Unable(f"this exporter was stalled for {lost:.1f} s: the target may have been fast enough")
    return Failed(f"took {duration:.3f} s, expected at most {check.max_latency:g} s", reason="latency")

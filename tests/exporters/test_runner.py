"""Deadline, result and history of a probe, with probes that do what a test needs."""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from typing import Any, Literal

import pytest

from exporters.clients.connections import Connections
from exporters.errors import Failed, Unable, raise_if_local
from exporters.history import History
from exporters.output import ProbeOutput
from exporters.probes.check import Check
from exporters.runner import Result, allowed_time, run
from tests.exporters.not_stalled import run_not_stalled


class Scripted(Check):
    type: Literal["scripted"] = "scripted"
    does: Any = None
    reasons = ("status",)

    @property
    def shown_target(self) -> str:
        return "nothing"

    async def probe(self, out: ProbeOutput, connections: Connections) -> None:
        await self.does(out)


def scripted(does: Any, **fields: Any) -> Scripted:
    return Scripted(id="it", service="s", environment="e", does=does, **fields)


async def says_yes(out: ProbeOutput) -> None:
    out.log("yes")


async def says_no(_: ProbeOutput) -> None:
    raise Failed("no", reason="status")


async def hangs(_: ProbeOutput) -> None:
    await asyncio.sleep(60)


def values(output: ProbeOutput) -> dict[str, float]:
    return {sample.name: sample.value for family in output.collect() for sample in family.samples}


@pytest.mark.parametrize(
    ("limit", "scrape", "allowed"),
    [(10, None, 10), (10, 5, 4.5), (1, 5, 1), (1, 1, 0.5), (5, 0.6, 0.3), (3, 3.5, 3)],
)
def test_the_deadline_leaves_time_to_answer(limit: float, scrape: float | None, allowed: float) -> None:
    assert allowed_time(limit, scrape) == pytest.approx(allowed)


async def test_success(connections: Connections) -> None:
    result, output = await run(scripted(says_yes), connections)
    assert result.success
    assert values(output) | {"probe_duration_seconds": 0} == {
        "probe_success": 1,
        "probe_duration_seconds": 0,
        "probe_timeout_seconds": 10,
        "probe_failed_due_to_timeout": 0,
        "probe_failed_due_to_latency": 0,
        "probe_failed_due_to_status": 0,
    }


async def test_failure(connections: Connections) -> None:
    result, output = await run(scripted(says_no), connections)
    assert (result.success, result.reason, result.why) == (False, "status", "no")
    assert values(output)["probe_failed_due_to_status"] == 1


async def test_a_target_that_hangs_is_a_failed_sample(connections: Connections) -> None:
    result, output = await run_not_stalled(scripted(hangs), connections, scrape_timeout=0.1)
    assert (result.reason, result.allowed) == ("timeout", 0.05)
    assert values(output)["probe_success"] == 0


async def test_exceeding_max_latency_has_its_own_reason(connections: Connections) -> None:
    async def slow(_: ProbeOutput) -> None:
        await asyncio.sleep(0.02)

    result, _ = await run_not_stalled(scripted(slow, max_latency="1ms"), connections)
    assert result.reason == "latency"


@pytest.mark.parametrize("limit", [{"timeout": "100ms"}, {"max_latency": "100ms"}])
async def test_a_stalled_exporter_does_not_fail_the_target(connections: Connections, limit: dict[str, str]) -> None:
    async def blocked(_: ProbeOutput) -> None:
        await asyncio.sleep(0.001)
        time.sleep(0.3)
        await asyncio.sleep(0.001)

    with pytest.raises(Unable, match=r"stalled for 0\.[23] s"):
        await run(scripted(blocked, **limit), connections)


async def test_a_short_stall_does_not_excuse_a_target_that_hangs(connections: Connections) -> None:
    async def hangs(_: ProbeOutput) -> None:
        time.sleep(0.08)
        await asyncio.sleep(60)

    result, _ = await run_not_stalled(scripted(hangs, timeout="2s"), connections)
    assert result.reason == "timeout"


@pytest.mark.parametrize(
    "number", [errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENETUNREACH, errno.ENETDOWN, socket.EAI_AGAIN]
)
def test_limits_of_the_exporter_do_not_fail_the_target(number: int) -> None:
    outer = RuntimeError("wrapped")
    outer.__cause__ = OSError(number, "limit")
    with pytest.raises(Unable):
        raise_if_local(outer)
    raise_if_local(OSError(errno.ECONNREFUSED, "refused"))


async def test_a_bug_is_raised(connections: Connections) -> None:
    async def buggy(_: ProbeOutput) -> None:
        raise KeyError("oops")

    with pytest.raises(KeyError):
        await run(scripted(buggy), connections)


def result(at: float, *, success: bool) -> Result:
    return Result("it", success, "" if success else "status", "", at, 0.1, 1, ())


def test_failures_are_kept_longer_than_successes() -> None:
    history = History()
    for at in range(5):
        history.record(result(at, success=False))
    for at in range(100, 200):
        history.record(result(at, success=True))
    assert [r.at for r in history.of("it")] == [199, 198, 197, 4, 3, 2, 1, 0]
    assert history.latest("it") == result(199, success=True)


def test_a_changed_outcome_is_reported() -> None:
    history = History()
    turns = [history.record(result(at, success=ok)) for at, ok in enumerate([True, True, False, False, True])]
    assert turns == [False, False, True, False, True]


def test_results_of_removed_checks_are_dropped() -> None:
    history = History()
    history.record(result(1, success=True))
    history.forget_all_but({"other"})
    assert history.latest("it") is None

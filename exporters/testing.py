"""The contract of a probe.

@pytest.mark.parametrize("law", LAWS)
async def test_my_probe(law):
    await law(ProbeCase(passing=..., failing=..., hanging=..., secret="s3cret"))
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from exporters.clients.connections import Connections
from exporters.output import ProbeOutput
from exporters.probes.check import Check
from exporters.runner import Result, run
from foundation.redaction import Redactor


@dataclass(frozen=True)
class ProbeCase:
    """One type of check against three targets.

    `passing`: the target holds. `failing`: it answers wrongly, or refuses. `hanging`: it never answers; a timeout of
    about a second keeps the suite fast. `secret`: a secret in the failing check; empty if the type has none.
    """

    passing: Check
    failing: Check
    hanging: Check
    secret: str = ""


async def passes(case: ProbeCase) -> None:
    """A target that holds is a success, without a reason to have failed."""
    result, series = await _probed(case.passing)
    _expect(result.success, f"a passing target failed: {result.why}")
    _expect(series["probe_success"] == 1.0, "a passing target has probe_success 0")
    _expect(not any(series[_due_to(reason)] for reason in _reasons(case.passing)), "a passing target has a reason")


async def fails_with_a_declared_reason(case: ProbeCase) -> None:
    """A failure names one of the reasons of its type, and the series of exactly this reason is 1."""
    result, series = await _probed(case.failing)
    _expect(not result.success and series["probe_success"] == 0.0, "a failing target has probe_success 1")
    _expect(result.reason in case.failing.reasons, f"reason {result.reason!r} is not in {case.failing.reasons}")
    _expect(bool(result.why), "a failure without an explanation")
    found = [reason for reason in _reasons(case.failing) if series[_due_to(reason)]]
    _expect(found == [result.reason], f"the series name the reasons {found}; expected {result.reason}")


async def times_out(case: ProbeCase) -> None:
    """A target that hangs is a failed sample in time, and never a missing one."""
    result, series = await _probed(case.hanging)
    _expect(result.reason == "timeout", f"a hanging target failed due to {result.reason!r}; expected timeout")
    _expect(series["probe_success"] == 0.0, "a hanging target has probe_success 1")


async def hides_secrets(case: ProbeCase) -> None:
    """Neither the shown target, the explanation, the log nor a label shows a secret."""
    async with _connections(case.failing) as connections:
        result, notes = await run(case.failing, connections)
    labels = [label for family in notes.collect() for sample in family.samples for label in sample.labels.values()]
    shown = [case.failing.shown_target, repr(case.failing), result.why, *(line for _, line in result.log), *labels]
    _expect(not case.secret or not any(case.secret in text for text in shown), "a secret is shown")
    _expect(not case.secret or case.secret in "".join(case.failing.secrets()), "a secret is not among `secrets()`")


async def names_its_series(case: ProbeCase) -> None:
    """Every series of a probe starts with `probe_`."""
    for check in (case.passing, case.failing):
        _, series = await _probed(check)
        other = [name for name in series if not name.startswith("probe_")]
        _expect(not other, f"series {other} do not start with probe_")


LAWS: tuple[Callable[[ProbeCase], Awaitable[None]], ...] = (
    passes,
    fails_with_a_declared_reason,
    times_out,
    hides_secrets,
    names_its_series,
)


@asynccontextmanager
async def _connections(check: Check) -> AsyncIterator[Connections]:
    connections = Connections(Redactor(check.secrets()))
    try:
        yield connections
    finally:
        await connections.close()


async def _probed(check: Check) -> tuple[Result, dict[str, float]]:
    async with _connections(check) as connections:
        result, notes = await run(check, connections)
    return result, _series(notes)


def _series(notes: ProbeOutput) -> dict[str, float]:
    return {sample.name: sample.value for family in notes.collect() for sample in family.samples}


def _reasons(check: Check) -> tuple[str, ...]:
    return ("timeout", "latency", *check.reasons)


def _due_to(reason: str) -> str:
    return f"probe_failed_due_to_{reason}"


def _expect(holds: bool, law: str) -> None:
    if not holds:
        raise AssertionError(law)

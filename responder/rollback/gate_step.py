"""One gate: check until every check has held for `hold_for`, or the deadline has passed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from responder.backends.check import Finding
from responder.errors import Inconclusive, StepFailed
from responder.rollback.change_step import StepResult
from responder.rollback.drift import require_in_place
from responder.rollback.execution import Execution
from responder.rollback.plan import Gate
from responder.rollback.ports import Ports


async def wait_for_gate(gate: Gate, execution: Execution, ports: Ports, *, elapsed: float) -> StepResult:
    """Waits until every check has held for `hold_for` without a break, with every resource still in place.

    `elapsed`: seconds since the gate was first started, if it is resumed. Nobody checked meanwhile. So checks that hold
    on resumption may complete `hold_for` even past the deadline; the first check that fails then ends the wait.

    Raises StepFailed at the deadline with what failed last; Inconclusive if no failing check answered.
    """
    deadline = ports.clock() + gate.within - max(elapsed, 0.0)
    good_since: float | None = None
    reason = "no check has failed, but they have not held long enough"
    while True:
        findings = await asyncio.gather(*(ports.gateway.holds(check) for check in gate.checks))
        failing = [finding for finding in findings if not finding.holds]
        now = ports.clock()
        good_since = None if failing else now if good_since is None else good_since
        if good_since is not None and now - good_since >= gate.hold_for:
            await require_in_place(execution, ports.gateway)
            return StepResult(changed=False, note=_reasons(findings))
        reason = _reasons(failing) or reason
        left = deadline - now
        if left <= 0 and elapsed and good_since is not None:
            left = gate.hold_for
        if left <= 0:
            await require_in_place(execution, ports.gateway)  # a modified resource is the better explanation
            raise _timed_out(gate, reason, failing)
        await ports.pause(execution, min(gate.every, left))


def _timed_out(gate: Gate, reason: str, failing: list[Finding]) -> StepFailed:
    """Without an answer the result is Inconclusive: it is no evidence against a version."""
    unknown = bool(failing) and not any(finding.answered for finding in failing)
    return (Inconclusive if unknown else StepFailed)(f'timed out waiting for "{gate}": {reason}')


def _reasons(findings: Iterable[Finding]) -> str:
    return "; ".join(finding.reason for finding in findings)

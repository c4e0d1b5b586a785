"""One change: read the resource, write it once, and wait until it has converged."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from responder.errors import Drift, Inconclusive, StepFailed
from responder.rollback.drift import drift_from, require_known
from responder.rollback.execution import Execution
from responder.rollback.gateway import Gateway
from responder.rollback.plan import Change
from responder.rollback.ports import Ports

_FIRST_PAUSE, _LATE = 0.05, 0.05
"""Seconds between the first checks of a resource. Later pauses are that part of the time so far, up to `every` of its
change: so little is lost when it converges between two checks.
"""


class StepResult(NamedTuple):
    """The result of a step: whether anything was changed, and a note for people."""

    changed: bool
    note: str = ""


async def apply_change(change: Change, execution: Execution, ports: Ports, *, resumed: bool) -> StepResult:
    """Sets the resource and waits for it. `resumed`: the step was started before, and then interrupted by a crash.

    Raises Drift if the resource has an unexpected value, StepFailed if it does not converge, Interrupted on a stop.
    """
    resource, gateway = change.resource, ports.gateway
    found = await gateway.read(resource)
    if resource.same(found, change.after) and await _has_converged(change, gateway):
        # After a crash, most likely this step wrote the value.
        return StepResult(changed=resumed, note="already in place")
    await require_known(change, found, gateway)
    await gateway.write(resource, change.after, expected=change.before)
    return await _converge(change, execution, ports)


async def _converge(change: Change, execution: Execution, ports: Ports) -> StepResult:
    since = ports.clock()
    while True:
        unknown = ""
        try:
            if await _check(change, ports.gateway):
                return StepResult(changed=True)
        except Inconclusive as e:
            unknown = f": {e}"  # only the deadline ends the wait
        except StepFailed as failure:
            if not change.reverting or isinstance(failure, Drift):
                raise
            return StepResult(changed=True, note=f"reverted; {failure}")
        elapsed = ports.clock() - since
        if elapsed > change.resource.converge_timeout:
            return _late(change, unknown)
        await ports.pause(execution, min(change.every, max(_FIRST_PAUSE, elapsed * _LATE)))


async def _check(change: Change, gateway: Gateway) -> bool:
    """Whether it has converged. Raises StepFailed if it never will, and Inconclusive without an answer of a check."""
    resource = change.resource
    converged = await gateway.converged(resource, change.after)
    if not converged and not resource.equivalent(found := await gateway.read(resource), change.after):
        raise await drift_from(change, found, gateway)
    findings = await asyncio.gather(*map(gateway.holds, change.meanwhile))
    if bad := [finding.reason for finding in findings if finding.answered and not finding.holds]:
        raise StepFailed(f"while the {resource} converged: {'; '.join(bad)}")
    if not converged:
        await gateway.assist(resource, change.after)
    if unknown := [finding.reason for finding in findings if not finding.answered]:
        raise Inconclusive("; ".join(unknown))
    return converged


def _late(change: Change, unknown: str) -> StepResult:
    """The result at the deadline. A revert continues: the version before the rollback need not be healthy."""
    resource = change.resource
    after, limit = resource.describe(change.after), resource.converge_timeout
    late = f"the {resource} was set to {after} and has not converged within {limit:g}s{unknown}"
    if change.reverting:
        return StepResult(changed=True, note=late)
    raise StepFailed(late)


async def _has_converged(change: Change, gateway: Gateway) -> bool:
    try:
        return await gateway.converged(change.resource, change.after)
    except Drift:
        raise
    except StepFailed:
        return False  # written again, which then reports why it never converges

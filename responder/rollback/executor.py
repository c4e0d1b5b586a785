"""Runs an execution from its plan to its outcome; it can be resumed after a crash at any point."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

from responder import errors
from responder.rollback.change_step import StepResult, apply_change
from responder.rollback.event_log import EventLog
from responder.rollback.events import (
    ApprovalRequested,
    Closed,
    Planned,
    StepCompleted,
    StepFailed,
    StepStarted,
    StopRequested,
)
from responder.rollback.execution import Execution, State
from responder.rollback.gate_step import wait_for_gate
from responder.rollback.plan import Change, Gate, Plan, Step
from responder.rollback.ports import Interrupted, Ports, StopRequest


async def execute(execution: Execution, ports: Ports) -> Execution:
    """Runs an execution until it is closed, stuck or awaiting approval. Call again to resume after a crash.

    Each event is committed before the next action. Raises LeaseLost if another worker took over.
    """
    log = EventLog(ports.record, execution)
    while (handle := HANDLERS.get(log.execution.state)) is not None:
        await handle(log, ports)
    return log.execution


async def _plan(log: EventLog, ports: Ports) -> None:
    """Plans, keeps the evidence, and requests approval if the policy or the plan requires it."""
    plan = await _planned(log, ports)
    if plan is None:
        return
    log.add(Planned(at=ports.now(), plan=plan))
    await _keep_evidence(log, ports)
    if reason := log.execution.accepted.approval_reason or plan.irreversible:
        await _request_approval(log, ports, reason)


async def _run(log: EventLog, ports: Ports) -> None:
    """Takes the next step forward, unless a stop is requested."""
    execution = log.execution
    if execution.approved_by and not execution.steps_started and not await _is_still_approved(log, ports):
        return
    if stop := await _stop_requested(log.execution, ports):
        await _stop(log, ports, stop)
    else:
        await _take_step(log, ports)


async def _is_still_approved(log: EventLog, ports: Ports) -> bool:
    """Plans again: an approval is for one plan. Requests approval again if the plan has changed."""
    approved, by = log.execution.plan, log.execution.approved_by
    plan = await _planned(log, ports)
    if plan is None or approved is None:
        return False
    if plan.hash == approved.hash:
        await _keep_evidence(log, ports)
        return True
    log.add(Planned(at=ports.now(), plan=plan))
    await _keep_evidence(log, ports)
    await _request_approval(log, ports, f"the plan has changed since {by} approved it ({approved.hash})")
    return False


async def _planned(log: EventLog, ports: Ports) -> Plan | None:
    try:
        return await ports.plan_for(log.execution)
    except errors.StepFailed as failure:
        reason, freeze = f"no plan could be made: {failure}", isinstance(failure, errors.Drift)
        await log.commit(StepFailed(at=ports.now(), reason=reason, freeze=freeze))
        return None


async def _keep_evidence(log: EventLog, ports: Ports) -> None:
    """Also before an approval: by the time a person approves, the logs of a crashing container may be gone."""
    if log.execution.evidence is None and (evidence := await ports.keep(log.execution)):
        log.add(evidence)


async def _request_approval(log: EventLog, ports: Ports, reason: str) -> None:
    until = ports.now() + timedelta(seconds=ports.approval_within)
    await log.commit(ApprovalRequested(at=ports.now(), reason=reason, until=until))


async def _stop_requested(execution: Execution, ports: Ports) -> StopRequest | None:
    """Checked before each step forward, but not after the last; the live alert state only before a change."""
    if not execution.todo:
        return None
    return await ports.stop_signal.requested(execution, about_to_act=isinstance(execution.todo[0], Change))


async def _stop(log: EventLog, ports: Ports, stop: StopRequest) -> None:
    execution = log.execution
    hold = execution.accepted.on_stop == "hold" and (execution.changed or execution.current is not None)
    await log.commit(StopRequested(at=ports.now(), **stop._asdict(), hold=hold))


async def _take_step(log: EventLog, ports: Ports) -> None:
    """Takes the next step of the plan, or of its reversal; closes the execution if none is left."""
    before = log.execution
    if not before.todo:
        await _close(log, ports)
        return
    step, number = before.todo[0], before.steps_started
    await log.commit(StepStarted(at=ports.now(), step=number, title=str(step)))
    try:
        result = await _perform(step, log.execution, ports, resumed=before.current is not None)
    except Interrupted:
        return  # the next iteration determines who it was, and records it
    except errors.StepFailed as failure:
        await log.commit(_failed(step, number, failure, ports))
    else:
        log.add(StepCompleted(at=ports.now(), step=number, changed=result.changed, note=result.note))


async def _perform(step: Step, execution: Execution, ports: Ports, *, resumed: bool) -> StepResult:
    """A resumed gate counts the time since its first start. A change does not: it may be written again."""
    if isinstance(step, Change):
        return await apply_change(step, execution, ports, resumed=resumed)
    since = execution.current_since if resumed else None
    elapsed = (ports.now() - since).total_seconds() if since else 0.0
    return await wait_for_gate(step, execution, ports, elapsed=elapsed)


def _failed(step: Step, number: int, failure: errors.StepFailed, ports: Ports) -> StepFailed:
    drift = isinstance(failure, errors.Drift)
    return StepFailed(
        at=ports.now(),
        step=number,
        reason=str(failure),
        freeze=drift or (isinstance(step, Gate) and step.otherwise == "freeze"),
        drift=drift,
        inconclusive=isinstance(failure, errors.Inconclusive),
        reverted_by=failure.by if isinstance(failure, errors.Drift) else "",
    )


async def _close(log: EventLog, ports: Ports) -> None:
    execution = log.execution
    outcome = execution.ending or "failed"
    remains = [mitigation.remains for mitigation in execution.plan.mitigations] if execution.plan else []
    reason = f"remaining work: {'; '.join(remains)}" if outcome == "mitigated" else execution.reason
    await log.commit(Closed(at=ports.now(), outcome=outcome, by="responder", reason=reason))


HANDLERS: dict[State, Callable[[EventLog, Ports], Awaitable[None]]] = {
    "accepted": _plan,
    "running": _run,
    "reverting": _take_step,
}
"""The action for each state. In all others nothing is left to do, or a person must act."""

"""Approves exactly the plan that was read, and only if no guard blocks it."""

from __future__ import annotations

from datetime import datetime, timedelta

from foundation.durations import format_duration
from responder.backends.connections import Connections
from responder.decisions.evaluation import GuardDenial, evaluate_again
from responder.decisions.policy_set import PolicySet
from responder.errors import Conflict
from responder.journal import Database, Transaction, decisions, executions
from responder.rollback.events import ApprovalRequested, Approved, Closed, Event, StopRequested
from responder.rollback.execution import Execution
from responder.rollback.ports import StopRequest
from responder.services import rollbacks


async def approve(
    execution_id: str,
    plan_hash: str,
    by: str,
    *,
    although_resolved: bool,
    policy_set: PolicySet,
    journal: Database,
    connections: Connections,
    now: datetime,
) -> tuple[Execution, Event]:
    """Records the approval. The worker evaluates the same guards again before the first change.

    `although_resolved`: approve also if the trouble is no longer visible.
    Raises Unknown, and Conflict if the plan has another hash, does not await approval or needs another approver, or if
    a guard blocks it.
    """
    execution = await journal.read(executions.load, execution_id)
    _check(execution, plan_hash, by, now)
    changed = execution.model_copy(update={"although_resolved": although_resolved})
    if refusal := await blocked_by(changed, policy_set=policy_set, journal=journal, connections=connections, now=now):
        raise Conflict(_not_approved(refusal, execution, now))
    event = Approved(at=now, by=by, plan_hash=plan_hash, although_resolved=although_resolved)

    async def append(tx: Transaction) -> Execution:
        found = await executions.load(tx, execution_id)
        _check(found, plan_hash, by, now)
        return await rollbacks.append(tx, found, [event], None)

    return await journal.transaction(append), event


async def blocked_by(
    execution: Execution, *, policy_set: PolicySet, journal: Database, connections: Connections, now: datetime
) -> GuardDenial | None:
    """The guard that blocks an execution now, besides the missing approval; None if no guard does."""
    switch = await journal.read(decisions.kill_switch)
    if why := policy_set.stop_file_says() or (f"stopped by {switch.set_by}: {switch.reason}" if switch else ""):
        return GuardDenial("kill_switch", f"automation is off: {why}")
    return await evaluate_again(execution, policy_set=policy_set, journal=journal, connections=connections, now=now)


async def end_approval(
    execution: Execution,
    stop: StopRequest | None,
    *,
    policy_set: PolicySet,
    journal: Database,
    connections: Connections,
    now: datetime,
) -> tuple[Event, ...]:
    """The events that follow when an execution awaiting approval is stopped (`stop`) or its time is over (None).

    While the trouble continues, the time to approve is renewed without another notification. Otherwise the execution
    is cancelled.
    """
    by, reason, guard = stop or StopRequest("responder", "not approved in time", guard=True)
    if stop is None and execution.accepted.alerts and not execution.accepted.forced:
        refusal = await blocked_by(execution, policy_set=policy_set, journal=journal, connections=connections, now=now)
        if refusal is None or refusal.unknown:
            until = now + timedelta(seconds=policy_set.policy(execution.accepted.policy).approve_within)
            return (ApprovalRequested(at=now, reason=execution.reason, until=until, renewed=True),)
        reason = f"{reason}, and {refusal.reason}"
    stopped = StopRequested(at=now, by=by, reason=reason, guard=guard)
    return stopped, Closed(at=now, outcome="cancelled", by=by, reason=reason)


def _check(execution: Execution, plan_hash: str, by: str, now: datetime) -> None:
    if execution.state != "awaiting_approval" or execution.plan is None:
        raise Conflict(f"execution {execution.id} is {execution.state}: no plan awaits approval")
    if execution.approve_before and now >= execution.approve_before:
        raise Conflict(f"execution {execution.id}: the approval has timed out")
    if execution.plan.hash != plan_hash:
        raise Conflict(f"the plan has hash {execution.plan.hash}, not {plan_hash}: read it again")
    if execution.plan.irreversible and by == execution.accepted.requested_by:
        raise Conflict(
            f"{execution.plan.irreversible} (irreversible): {by} requested the rollback, so another person must "
            "approve it"
        )


def _not_approved(refusal: GuardDenial, execution: Execution, now: datetime) -> str:
    if refusal.resolved:
        return f"not approved: {refusal.reason}. To roll back nevertheless, approve with --although-resolved"
    left = (execution.approve_before - now).total_seconds() // 1 if execution.approve_before else 0
    return (
        f"not approved: guard {refusal.guard} blocks it: {refusal.reason}; the plan awaits approval for another "
        f"{format_duration(left)}"
    )

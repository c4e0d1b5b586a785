"""Approving a plan: for the plan that was read, and only while nothing but the approval is missing."""

from __future__ import annotations

from datetime import datetime, timedelta

from responder.backends.connections import Connections
from responder.config.durations import format_duration
from responder.decisions.evaluation import Refusal, ask_again
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
    """Records the approval. The worker asks the same guards once more before the first change.

    Raises Unknown; and Conflict if the plan is another one, does not wait, waits for others, or a guard holds it.
    """
    execution = await journal.read(executions.load, execution_id)
    _check(execution, plan_hash, by, now)
    changed = execution.model_copy(update={"although_resolved": although_resolved})
    if refusal := await held_by(changed, policy_set=policy_set, journal=journal, connections=connections, now=now):
        raise Conflict(_not_approved(refusal, execution, now))
    event = Approved(at=now, by=by, plan_hash=plan_hash, although_resolved=although_resolved)

    async def append(tx: Transaction) -> Execution:
        found = await executions.load(tx, execution_id)
        _check(found, plan_hash, by, now)
        return await rollbacks.append(tx, found, [event], None)

    return await journal.transaction(append), event


async def held_by(
    execution: Execution, *, policy_set: PolicySet, journal: Database, connections: Connections, now: datetime
) -> Refusal | None:
    """What else than the approval keeps a plan from being executed now; None if nothing does."""
    switch = await journal.read(decisions.kill_switch)
    if why := policy_set.stop_file_says() or (f"stopped by {switch.set_by}: {switch.reason}" if switch else ""):
        return Refusal("kill_switch", f"automation is off: {why}")
    return await ask_again(execution, policy_set=policy_set, journal=journal, connections=connections, now=now)


async def after_waiting(
    execution: Execution,
    stop: StopRequest | None,
    *,
    policy_set: PolicySet,
    journal: Database,
    connections: Connections,
    now: datetime,
) -> tuple[Event, ...]:
    """What becomes of a plan that somebody stopped (`stop`) or that nobody approved in time.

    While the trouble goes on it waits on quietly: people were asked once. Otherwise it is cancelled.
    """
    by, reason, guard = stop or StopRequest("responder", "nobody approved it in time", guard=True)
    if stop is None and execution.accepted.alerts and not execution.accepted.forced:
        refusal = await held_by(execution, policy_set=policy_set, journal=journal, connections=connections, now=now)
        if refusal is None or refusal.unknown:
            until = now + timedelta(seconds=policy_set.policy(execution.accepted.policy).approve_within)
            return (ApprovalRequested(at=now, reason=execution.reason, until=until, renewed=True),)
        reason = f"{reason}, and {refusal.reason}"
    stopped = StopRequested(at=now, by=by, reason=reason, guard=guard)
    return stopped, Closed(at=now, outcome="cancelled", by=by, reason=reason)


def _check(execution: Execution, plan_hash: str, by: str, now: datetime) -> None:
    if execution.state != "awaiting_approval" or execution.plan is None:
        raise Conflict(f"execution {execution.id} is {execution.state}: nothing waits for approval")
    if execution.approve_before and now >= execution.approve_before:
        raise Conflict(f"the time to approve execution {execution.id} is over")
    if execution.plan.hash != plan_hash:
        raise Conflict(f"the plan is {execution.plan.hash}, not {plan_hash}: read it again")
    if execution.plan.irreversible and by == execution.accepted.requested_by:
        raise Conflict(
            f"{execution.plan.irreversible}: that cannot be undone, so somebody else than {by}, who asked for it, has "
            "to approve it"
        )


def _not_approved(refusal: Refusal, execution: Execution, now: datetime) -> str:
    if refusal.resolved:
        return f"not approved: {refusal.reason}. To roll back all the same, approve with --although-resolved"
    left = (execution.approve_before - now).total_seconds() // 1 if execution.approve_before else 0
    waits = f"the plan waits for another {format_duration(left)}"
    return f"not approved: the guard {refusal.guard} holds it: {refusal.reason}; {waits}"

"""From plan to outcome, one loop forward and back, resumable at every line; it does not know who drives it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

from pydantic import JsonValue

from responder import errors
from responder.errors import Drift, Inconclusive
from responder.rollback.events import (
    ApprovalRequested,
    Closed,
    Event,
    EvidenceCollected,
    Planned,
    StepCompleted,
    StepFailed,
    StepStarted,
    StopRequested,
)
from responder.rollback.execution import Execution, StopAsked
from responder.rollback.gateway import Gateway
from responder.rollback.plan import Change, Gate, Plan


class Record(Protocol):
    """The memory of what is done. Raises `LeaseLost` where somebody else wrote first."""

    async def append(self, execution: Execution, *events: Event) -> Execution: ...


class StopSignal(Protocol):
    """How others stop a rollback: cooperatively, at the next safe point."""

    async def stop_asked(self, execution: Execution, *, about_to_act: bool) -> StopAsked | None:
        """Who asks to stop, and why; None to go on. Before an act the live state of its alerts is asked as well."""

    async def pause(self, seconds: float) -> None:
        """Waits, but no longer than until somebody asks to stop."""


_FIRST_LOOK = 0.02
"""Seconds until the second look at a resource; each later one waits a quarter longer, up to the pause of its move."""

Planner = Callable[[Execution], Awaitable[Plan]]

Keeper = Callable[[Execution], Awaitable[EvidenceCollected | None]]
"""Keeps evidence: in bounded time, and without ever raising because of it. None where nothing is to be kept."""


async def keep_nothing(execution: Execution) -> EvidenceCollected | None:
    """For whoever keeps no evidence."""
    return None


async def execute(
    execution: Execution,
    *,
    record: Record,
    gateway: Gateway,
    stop_signal: StopSignal,
    plan_for: Planner,
    keep: Keeper = keep_nothing,
    approval_within: float = 900.0,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    clock: Callable[[], float] = lambda: asyncio.get_running_loop().time(),
) -> Execution:
    """Drives an execution until it is closed, stuck or waiting for a human. Enter it again after a crash.

    Each event is committed before the next thing is done. What has been done and what is begun next go into one
    commit: a crash between the two would tell nothing that reading the resource does not tell as well.
    """
    pending: list[Event] = []
    # What was approved is planned once more: an approval is for one plan, and the world may have moved since.
    approved = execution.plan if execution.approved_by and not execution.steps_begun else None
    if execution.state == "accepted" or (approved and execution.state == "running"):
        try:
            plan = await plan_for(execution)
        except errors.StepFailed as failure:
            why = f"no plan could be made: {failure}"
            execution = await record.append(
                execution, StepFailed(at=now(), reason=why, freeze=isinstance(failure, Drift))
            )
        else:
            why, pending = _why_hold(execution, plan, approved), [Planned(at=now(), plan=plan)]
            # Also where a human has to approve first: what a crashing container said is gone by then.
            if execution.kept is None and (kept := await keep(execution)):
                pending.append(kept)
            if why:
                until = now() + timedelta(seconds=approval_within)
                return await record.append(execution, *pending, ApprovalRequested(at=now(), reason=why, until=until))
            if approved:
                pending = pending[1:]

    async def commit(*events: Event) -> Execution:
        nonlocal pending
        written, pending = (*pending, *events), []
        return await record.append(execution, *written)

    while execution.state in ("accepted", "running", "reverting"):
        ahead = _ahead(execution, pending)
        if not ahead.todo:
            outcome = ahead.ending or "failed"
            remains = (
                [mitigation.remains for mitigation in ahead.plan.mitigations]
                if ahead.plan and outcome == "mitigated"
                else []
            )
            reason = f"what remains to do: {'; '.join(remains)}" if remains else ahead.reason
            return await commit(Closed(at=now(), outcome=outcome, by="responder", reason=reason))
        step = ahead.todo[0]
        if ahead.state == "running" and (
            stop := await stop_signal.stop_asked(ahead, about_to_act=isinstance(step, Change))
        ):
            hold = ahead.accepted.on_stop == "hold" and (ahead.changed or ahead.current is not None)
            execution = await commit(StopRequested(at=now(), **stop._asdict(), hold=hold))
            continue
        number = ahead.steps_begun
        execution = await commit(StepStarted(at=now(), step=number, title=str(step)))
        try:
            again = ahead.current is not None
            passed = (now() - (execution.current_since or now())).total_seconds() if again else 0.0
            changed, note = await _take(step, execution, gateway, stop_signal, clock, again=again, passed=passed)
        except _StopAsked:
            continue  # the loop asks again, and records who it was
        except errors.StepFailed as failure:
            drift = isinstance(failure, Drift)
            freeze = drift or (isinstance(step, Gate) and step.otherwise == "freeze")
            by = failure.by if isinstance(failure, Drift) else ""
            details = {"drift": drift, "unseen": isinstance(failure, Inconclusive), "reverted_by": by}
            execution = await commit(StepFailed(at=now(), step=number, reason=str(failure), freeze=freeze, **details))
        else:
            pending = [StepCompleted(at=now(), step=number, changed=changed, note=note)]
    return execution


def _why_hold(execution: Execution, plan: Plan, approved: Plan | None) -> str:
    """Why a human has to approve this plan; empty where nobody has to, or somebody has."""
    if approved and plan.hash == approved.hash:
        return ""
    if approved:
        return f"the plan is another one by now than {execution.approved_by} approved ({approved.hash})"
    return execution.accepted.approval_reason or plan.irreversible


def _ahead(execution: Execution, pending: list[Event]) -> Execution:
    for event in pending:
        execution = execution.after(event)
    return execution


class _StopAsked(Exception):
    pass


async def _take(
    step: Change | Gate,
    execution: Execution,
    gateway: Gateway,
    stop_signal: StopSignal,
    clock: Callable[[], float],
    *,
    again: bool,
    passed: float,
) -> tuple[bool, str]:
    """Takes one step; returns whether anything was changed, and a note on what was found.

    `passed`: seconds since the step was first started, where it is resumed. A gate counts them. A move does not: what
    has not converged is written once more, and the world needs its time for that.
    """
    if isinstance(step, Change):
        return await _change(step, execution, gateway, stop_signal, clock, again=again)
    note = await _wait_for(step, execution, gateway, stop_signal, clock, passed)
    await _stand(execution, gateway)
    return False, note


async def _stand(execution: Execution, gateway: Gateway) -> None:
    """Raises Drift where a resource is not where we put it any more: whoever moved it is reported, and never fought."""
    for change in execution.standing:
        if not change.resource.equivalent(found := await gateway.read(change.resource), change.after):
            raise await _drifted(change, found, gateway)


async def _drifted(change: Change, found: JsonValue, gateway: Gateway) -> Drift:
    who = await gateway.last_modified_by(change.resource)
    resource = change.resource
    observed = f"the {resource} was set to {resource.describe(change.after)} and is {resource.describe(found)} now"
    return Drift(f"{observed}: {who or 'somebody else'} moved it", by=who)


async def _change(
    change: Change,
    execution: Execution,
    gateway: Gateway,
    stop_signal: StopSignal,
    clock: Callable[[], float],
    *,
    again: bool,
) -> tuple[bool, str]:
    resource = change.resource
    found = await gateway.read(resource)
    if resource.same(found, change.after) and await _has_converged(change, gateway):
        # Where this step was begun before a crash, it was most likely we who put it there.
        return again, "it was there already"
    if not resource.equivalent(found, change.before) and not resource.equivalent(found, change.after):
        who = await gateway.last_modified_by(resource)
        raise Drift(
            f"the {resource} is {resource.describe(found)}, "
            f"neither {resource.describe(change.before)} nor {resource.describe(change.after)}: "
            f"{who or 'somebody else'} moved it, so nothing more is touched",
            by=who,
        )
    await gateway.write(resource, change.after, expected=change.before)
    deadline, pause = clock() + resource.converge_timeout, min(change.every, _FIRST_LOOK)
    while True:
        unseen = ""
        try:
            if await _has_followed(change, gateway):
                return True, ""
        except Inconclusive as e:
            unseen = f": {e}"  # it may go on well all the same: only the deadline ends the wait
        except errors.StepFailed as failure:
            if not change.reverting or isinstance(failure, Drift):
                raise
            return True, f"set back; {failure}"
        if clock() > deadline:
            after, limit = resource.describe(change.after), resource.converge_timeout
            late = f"the {resource} was set to {after} and has not converged in {limit:g} s"
            if change.reverting:
                return True, late + unseen
            raise errors.StepFailed(late + unseen)
        await stop_signal.pause(pause)
        pause = min(change.every, pause * 1.25)
        if execution.state == "running" and await stop_signal.stop_asked(execution, about_to_act=False):
            raise _StopAsked


async def _has_followed(change: Change, gateway: Gateway) -> bool:
    """One look at a world that follows. Raises Halt where it never will, and Inconclusive where nobody can say."""
    resource = change.resource
    converged = await gateway.converged(resource, change.after)
    if not converged and not resource.equivalent(found := await gateway.read(resource), change.after):
        raise await _drifted(change, found, gateway)
    findings = await asyncio.gather(*map(gateway.holds, change.meanwhile))
    if bad := [f.reason for f in findings if f.answered and not f.holds]:
        raise errors.StepFailed(f"while the {resource} followed: {'; '.join(bad)}")
    if not converged:
        await gateway.assist(resource, change.after)
    if unknown := [f.reason for f in findings if not f.answered]:
        raise Inconclusive("; ".join(unknown))
    return converged


async def _has_converged(change: Change, gateway: Gateway) -> bool:
    try:
        return await gateway.converged(change.resource, change.after)
    except Drift:
        raise
    except errors.StepFailed:
        return False  # where it never will, that is told after it was written once more


async def _wait_for(
    gate: Gate,
    execution: Execution,
    gateway: Gateway,
    stop_signal: StopSignal,
    clock: Callable[[], float],
    passed: float,
) -> str:
    """Returns once every check has held for `hold_for`. Raises Halt at the deadline with what was wrong last.

    Nobody looked while no replica carried it out. So checks that hold at a resumption may show that they hold for
    `hold_for`, even past the deadline; the first one that does not hold ends the wait then.
    """
    deadline = clock() + gate.within - max(passed, 0.0)
    good_since: float | None = None
    wrong = "nothing was seen yet"
    while True:
        findings = await asyncio.gather(*(gateway.holds(check) for check in gate.checks))
        bad = [f.reason for f in findings if not f.holds]
        unseen = bool(bad) and not any(f.answered for f in findings if not f.holds)
        good_since = None if bad else clock() if good_since is None else good_since
        if good_since is not None and clock() - good_since >= gate.hold_for:
            return "; ".join(f.reason for f in findings)
        wrong = "; ".join(bad) or wrong
        left = deadline - clock()
        if left <= 0 and passed and good_since is not None:
            left = gate.hold_for
        if left <= 0:
            await _stand(execution, gateway)  # a resource that was put back explains it best
            reason = f'timed out waiting for "{gate}": {wrong}'
            raise Inconclusive(reason) if unseen else errors.StepFailed(reason)
        await stop_signal.pause(min(gate.every, left))
        if execution.state == "running" and await stop_signal.stop_asked(execution, about_to_act=False):
            raise _StopAsked

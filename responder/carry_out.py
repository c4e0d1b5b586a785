"""From plan to outcome, one loop forward and back, resumable at every line; it does not know who drives it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

from pydantic import JsonValue

from responder.errors import Drift, Halt, Unseen
from responder.execution import (
    Closed,
    Done,
    Event,
    Execution,
    Halted,
    Held,
    Kept,
    Planned,
    Started,
    StopAsked,
    Stopped,
)
from responder.plan import Gate, Move, Plan
from responder.world import World


class Record(Protocol):
    """The memory of what is done. Raises `Superseded` where somebody else wrote first."""

    async def append(self, execution: Execution, *events: Event) -> Execution: ...


class Reins(Protocol):
    """How others stop a rollback: cooperatively, at the next safe point."""

    async def stop_asked(self, execution: Execution, *, about_to_act: bool) -> StopAsked | None:
        """Who asks to stop, and why; None to go on. Before an act the live state of its alerts is asked as well."""

    async def pause(self, seconds: float) -> None:
        """Waits, but no longer than until somebody asks to stop."""


_FIRST_LOOK = 0.02
"""Seconds until the second look at a lever; each later one waits a quarter longer, up to the pause of its move."""

Planner = Callable[[Execution], Awaitable[Plan]]

Keeper = Callable[[Execution], Awaitable[Kept | None]]
"""Keeps evidence: in bounded time, and without ever raising because of it. None where nothing is to be kept."""


async def keep_nothing(execution: Execution) -> Kept | None:
    """For whoever keeps no evidence."""
    return None


async def carry_out(
    execution: Execution,
    *,
    record: Record,
    world: World,
    reins: Reins,
    plan_for: Planner,
    keep: Keeper = keep_nothing,
    approval_within: float = 900.0,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    clock: Callable[[], float] = lambda: asyncio.get_running_loop().time(),
) -> Execution:
    """Drives an execution until it is closed, stuck or waiting for a human. Enter it again after a crash.

    Each event is committed before the next thing is done. What has been done and what is begun next go into one
    commit: a crash between the two would tell nothing that reading the lever does not tell as well.
    """
    pending: list[Event] = []
    # What was approved is planned once more: an approval is for one plan, and the world may have moved since.
    approved = execution.plan if execution.approved_by and not execution.steps_begun else None
    if execution.state == "accepted" or (approved and execution.state == "running"):
        try:
            plan = await plan_for(execution)
        except Halt as halt:
            why = f"no plan could be made: {halt}"
            execution = await record.append(execution, Halted(at=now(), reason=why, freeze=isinstance(halt, Drift)))
        else:
            why, pending = _why_hold(execution, plan, approved), [Planned(at=now(), plan=plan)]
            # Also where a human has to approve first: what a crashing container said is gone by then.
            if execution.kept is None and (kept := await keep(execution)):
                pending.append(kept)
            if why:
                until = now() + timedelta(seconds=approval_within)
                return await record.append(execution, *pending, Held(at=now(), reason=why, until=until))
            if approved:
                pending = pending[1:]

    async def commit(*events: Event) -> Execution:
        nonlocal pending
        written, pending = (*pending, *events), []
        return await record.append(execution, *written)

    while execution.state in ("accepted", "running", "turning_back"):
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
        if ahead.state == "running" and (stop := await reins.stop_asked(ahead, about_to_act=isinstance(step, Move))):
            hold = ahead.accepted.on_stop == "hold" and (ahead.changed or ahead.current is not None)
            execution = await commit(Stopped(at=now(), **stop._asdict(), hold=hold))
            continue
        number = ahead.steps_begun
        execution = await commit(Started(at=now(), step=number, title=str(step)))
        try:
            again = ahead.current is not None
            passed = (now() - (execution.current_since or now())).total_seconds() if again else 0.0
            changed, note = await _take(step, execution, world, reins, clock, again=again, passed=passed)
        except _StopAsked:
            continue  # the loop asks again, and records who it was
        except Halt as halt:
            drift = isinstance(halt, Drift)
            freeze = drift or (isinstance(step, Gate) and step.otherwise == "freeze")
            by = halt.by if isinstance(halt, Drift) else ""
            details = {"drift": drift, "unseen": isinstance(halt, Unseen), "reverted_by": by}
            execution = await commit(Halted(at=now(), step=number, reason=str(halt), freeze=freeze, **details))
        else:
            pending = [Done(at=now(), step=number, changed=changed, note=note)]
    return execution


def _why_hold(execution: Execution, plan: Plan, approved: Plan | None) -> str:
    """Why a human has to approve this plan; empty where nobody has to, or somebody has."""
    if approved and plan.hash == approved.hash:
        return ""
    if approved:
        return f"the plan is another one by now than {execution.approved_by} approved ({approved.hash})"
    return execution.accepted.needs_approval or plan.irreversible


def _ahead(execution: Execution, pending: list[Event]) -> Execution:
    for event in pending:
        execution = execution.after(event)
    return execution


class _StopAsked(Exception):
    pass


async def _take(
    step: Move | Gate,
    execution: Execution,
    world: World,
    reins: Reins,
    clock: Callable[[], float],
    *,
    again: bool,
    passed: float,
) -> tuple[bool, str]:
    """Takes one step; returns whether anything was changed, and a note on what was found.

    `passed`: seconds since the step was first started, where it is resumed. A gate counts them. A move does not: what
    has not converged is written once more, and the world needs its time for that.
    """
    if isinstance(step, Move):
        return await _move(step, execution, world, reins, clock, again=again)
    note = await _wait_for(step, execution, world, reins, clock, passed)
    await _stand(execution, world)
    return False, note


async def _stand(execution: Execution, world: World) -> None:
    """Raises Drift where a lever is not where we put it any more: whoever moved it is reported, and never fought."""
    for move in execution.standing:
        if not move.lever.near(found := await world.read(move.lever), move.to):
            raise await _moved(move, found, world)


async def _moved(move: Move, found: JsonValue, world: World) -> Drift:
    who = await world.moved_by(move.lever)
    observed = f"the {move.lever} was set to {move.lever.tell(move.to)} and is {move.lever.tell(found)} now"
    return Drift(f"{observed}: {who or 'somebody else'} moved it", by=who)


async def _move(
    move: Move, execution: Execution, world: World, reins: Reins, clock: Callable[[], float], *, again: bool
) -> tuple[bool, str]:
    lever = move.lever
    found = await world.read(lever)
    if lever.same(found, move.to) and await _has_settled(move, world):
        # Where this step was begun before a crash, it was most likely we who put it there.
        return again, "it was there already"
    if not lever.near(found, move.was) and not lever.near(found, move.to):
        who = await world.moved_by(lever)
        raise Drift(
            f"the {lever} is {lever.tell(found)}, neither {lever.tell(move.was)} nor {lever.tell(move.to)}: "
            f"{who or 'somebody else'} moved it, so nothing more is touched",
            by=who,
        )
    await world.write(lever, move.to, was=move.was)
    deadline, pause = clock() + lever.settles_within, min(move.every, _FIRST_LOOK)
    while True:
        unseen = ""
        try:
            if await _has_followed(move, world):
                return True, ""
        except Unseen as e:
            unseen = f": {e}"  # it may go on well all the same: only the deadline ends the wait
        except Halt as halt:
            if not move.back or isinstance(halt, Drift):
                raise
            return True, f"set back; {halt}"
        if clock() > deadline:
            late = f"the {lever} was set to {lever.tell(move.to)} and has not settled in {lever.settles_within:g} s"
            if move.back:
                return True, late + unseen
            raise Halt(late + unseen)
        await reins.pause(pause)
        pause = min(move.every, pause * 1.25)
        if execution.state == "running" and await reins.stop_asked(execution, about_to_act=False):
            raise _StopAsked


async def _has_followed(move: Move, world: World) -> bool:
    """One look at a world that follows. Raises Halt where it never will, and Unseen where nobody can say."""
    lever = move.lever
    settled = await world.settled(lever, move.to)
    if not settled and not lever.near(found := await world.read(lever), move.to):
        raise await _moved(move, found, world)
    findings = await asyncio.gather(*map(world.holds, move.meanwhile))
    if bad := [f.reason for f in findings if f.answered and not f.holds]:
        raise Halt(f"while the {lever} followed: {'; '.join(bad)}")
    if not settled:
        await world.nudge(lever, move.to)
    if unknown := [f.reason for f in findings if not f.answered]:
        raise Unseen("; ".join(unknown))
    return settled


async def _has_settled(move: Move, world: World) -> bool:
    try:
        return await world.settled(move.lever, move.to)
    except Drift:
        raise
    except Halt:
        return False  # where it never will, that is told after it was written once more


async def _wait_for(
    gate: Gate, execution: Execution, world: World, reins: Reins, clock: Callable[[], float], passed: float
) -> str:
    """Returns once every check has held for `hold_for`. Raises Halt at the deadline with what was wrong last.

    Nobody looked while no replica carried it out. So checks that hold at a resumption may show that they hold for
    `hold_for`, even past the deadline; the first one that does not hold ends the wait then.
    """
    deadline = clock() + gate.within - max(passed, 0.0)
    good_since: float | None = None
    wrong = "nothing was seen yet"
    while True:
        findings = await asyncio.gather(*(world.holds(check) for check in gate.checks))
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
            await _stand(execution, world)  # a lever that was put back explains it best
            reason = f'timed out waiting for "{gate}": {wrong}'
            raise Unseen(reason) if unseen else Halt(reason)
        await reins.pause(min(gate.every, left))
        if execution.state == "running" and await reins.stop_asked(execution, about_to_act=False):
            raise _StopAsked

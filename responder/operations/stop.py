"""Stops one rollback at its next safe point, or all automation with the kill switch."""

from __future__ import annotations

from responder.journal import Database, decisions, executions
from responder.rollback.execution import Execution
from responder.rollback.plan import Change

STOPPABLE = ("accepted", "awaiting_approval", "running")
"""States in which a rollback can be stopped."""

_NO_REASON = "no reason was given"


async def stop(execution_id: str, by: str, reason: str, *, journal: Database) -> tuple[str, str]:
    """Requests the stop; returns the reason on record and the effect on traffic.

    Raises Unknown, and Conflict if the execution can no longer be stopped.
    """
    execution = await journal.read(executions.load, execution_id)
    reason = reason or _NO_REASON
    await journal.transaction(executions.request_stop, execution_id, by, reason)
    return reason, effect_of_stop(execution)


async def stop_all(by: str, reason: str, *, journal: Database) -> str:
    """Throws the kill switch: nothing starts, and running rollbacks stop. Returns the reason on record."""
    reason = reason or _NO_REASON
    await journal.transaction(decisions.set_kill_switch, by, reason, journal.now())
    return reason


def effect_of_stop(execution: Execution) -> str:
    """The effect on traffic if this rollback stops now, in one sentence."""
    accepted = execution.accepted
    services = " and ".join(part.service for part in accepted.parts)
    bad = " and ".join(dict.fromkeys(part.from_version for part in accepted.parts))
    good = " and ".join(dict.fromkeys(part.to_version for part in accepted.parts))
    if execution.state == "reverting":
        return f"the rollback is already being reverted: {services} returns to {bad}"
    if not execution.changed and execution.current is None:
        return f"nothing has changed yet: {services} stays on {bad}"
    if accepted.on_stop == "hold":
        return f"the changes made so far stay, and {services} stays locked until a person closes the rollback"
    if not any(isinstance(step, Change) for step in execution.todo):
        return f"{services} runs {good} now; a stop returns traffic to {bad}"
    return f"the changes made so far are reverted: {services} returns to {bad}"

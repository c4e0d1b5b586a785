"""Closes a stuck rollback after a person has looked at it, and releases the kill switch."""

from __future__ import annotations

from responder.errors import Conflict
from responder.journal import Database, Transaction, decisions, executions
from responder.rollback.events import Closed, Event, Outcome
from responder.rollback.execution import Execution
from responder.services import rollbacks


async def close(
    execution_id: str, outcome: Outcome, by: str, reason: str, *, journal: Database
) -> tuple[Execution, Event]:
    """Closes a stuck execution with the outcome that a person reports. Raises Unknown, and Conflict unless stuck."""

    async def append(tx: Transaction) -> tuple[Execution, Event]:
        execution = await executions.load(tx, execution_id)
        if execution.state != "stuck":
            raise Conflict(f"execution {execution.id} is {execution.state}: only a stuck execution can be closed")
        event = Closed(at=journal.now(), outcome=outcome, by=by, reason=f"{reason} (was: {execution.reason})")
        return await rollbacks.append(tx, execution, [event], None), event

    return await journal.transaction(append)


async def resume_all(*, journal: Database) -> None:
    """Releases the kill switch. Raises Conflict if it is not thrown."""
    if not await journal.transaction(decisions.release_kill_switch):
        raise Conflict("the kill switch is not thrown")

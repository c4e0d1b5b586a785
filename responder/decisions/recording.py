"""Records a decision and its notification."""

from __future__ import annotations

from responder.journal import Transaction, decisions, outbox
from responder.journal.decisions import RecordedDecision
from responder.rollback.stages import Stage


def stage_of_decision(decision: RecordedDecision) -> Stage | None:
    """The notification about a decision that opens no rollback; None if there is none."""
    if decision.result in ("notify", "preserve"):
        return "alert"
    if decision.action == "read" and decision.result == "deny":
        return "denied"
    if decision.result != "deny" or decision.forced or decision.action != "roll_back":
        return None  # the person who requested a rollback already has the answer
    if decision.guard == "duplicate_alert":
        return None  # the rollback that the alert opened sends its own notifications
    return "observed" if decision.guard == "mode" else "denied"


async def record_decision(tx: Transaction, decision: RecordedDecision, *, repeated: bool = True) -> None:
    """Records a decision, and its notification the first time. `repeated`: the sender sent the same alerts again."""
    new = await decisions.insert(tx, decision, repeated=repeated)
    if new and (stage := stage_of_decision(decision)):
        await outbox.add(tx, outbox.News(decision.id, 0, stage, decision.at))

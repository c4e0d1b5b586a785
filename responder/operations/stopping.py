"""What stopping a rollback does to traffic, for people who are about to stop it and for those who did."""

from __future__ import annotations

from responder.rollback.execution import Execution
from responder.rollback.plan import Change

STOPPABLE = ("accepted", "awaiting_approval", "running")
"""States in which a rollback can be stopped."""


def effect_of_stop(execution: Execution) -> str:
    """What happens to traffic if this rollback is stopped now, in one sentence."""
    accepted = execution.accepted
    services = " and ".join(part.service for part in accepted.parts)
    bad = " and ".join(dict.fromkeys(part.from_version for part in accepted.parts))
    good = " and ".join(dict.fromkeys(part.to_version for part in accepted.parts))
    if execution.state == "reverting":
        return f"the rollback is being reverted already: {services} goes back to {bad}"
    if not execution.changed and execution.current is None:
        return f"nothing has been changed: {services} stays on {bad}"
    if accepted.on_stop == "hold":
        return f"the changes made so far stay, and {services} stays locked until a person closes the rollback"
    if not any(isinstance(step, Change) for step in execution.todo):
        return f"{services} runs {good} now; stopping puts {bad} back into traffic"
    return f"the changes made so far are reverted: {services} goes back to {bad}"

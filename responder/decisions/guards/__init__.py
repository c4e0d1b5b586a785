"""Guards decide whether to act, each for a reason. They are pure: they may import facts, incidents and policies."""

from responder.decisions.guards.decision import Decision, decide, needs_human, needs_live_data
from responder.decisions.guards.guard import Guard, GuardResult
from responder.decisions.guards.log_guards import LOG_GUARDS
from responder.decisions.guards.service import did_not_help
from responder.decisions.guards.table import GUARDS, LIVE

__all__ = [
    "GUARDS",
    "LIVE",
    "LOG_GUARDS",
    "Decision",
    "Guard",
    "GuardResult",
    "decide",
    "did_not_help",
    "needs_human",
    "needs_live_data",
]

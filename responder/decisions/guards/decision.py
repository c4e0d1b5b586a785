"""What the guards decide together, and what follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from foundation.models import FrozenModel
from responder.decisions.facts import Facts
from responder.decisions.guards.guard import Guard, GuardResult
from responder.decisions.guards.service import did_not_help, service_configured
from responder.decisions.guards.table import GUARDS
from responder.decisions.incidents import Incident
from responder.services.registry import NEVER_A_TARGET

_TEMPORARY = frozenset(guard.name for guard in GUARDS if guard.temporary)

_BLAMING = (["deployed_within"], ["restored_version"])
"""If only one of these denies, live data shows whether the trouble is older than the version that was replaced."""


class Decision(FrozenModel):
    """The results of all guards."""

    guard_results: tuple[GuardResult, ...]

    @property
    def deciding(self) -> GuardResult:
        """The first that denies; else the first that requires approval; else the last, which allows."""
        for kind in ("deny", "require_approval"):
            for result in self.guard_results:
                if result.result == kind:
                    return result
        return self.guard_results[-1]


def decide(incident: Incident, facts: Facts, now: datetime, guards: Sequence[Guard] = GUARDS) -> Decision:
    """Evaluates every guard. If `service_configured` denies, the later guards are skipped."""
    results = []
    for guard in guards:
        results.append(guard.evaluate(incident, facts, now))
        if guard is service_configured and results[-1].result == "deny":
            break
    return Decision(guard_results=tuple(results))


def needs_live_data(incident: Incident, decision: Decision, facts: Facts) -> bool:
    """Whether only live data and other services can still deny it; otherwise, querying them is useless."""
    if incident.action != "roll_back" or incident.by_name or facts.live is not None:
        return False
    denying = [result.guard for result in decision.guard_results if result.result == "deny"]
    replaced = facts.replaced
    blames = replaced is not None and replaced.status not in NEVER_A_TARGET and denying[:1] in _BLAMING
    return denying in ([], ["mode"]) or blames


def needs_human(
    incident: Incident, deciding: GuardResult, facts: Facts, now: datetime, *, trouble_visible: bool
) -> bool:
    """Whether a person must take over: a denial leaves visible trouble, or an engineer's request, unhandled."""
    if incident.by_name or incident.action != "roll_back" or deciding.result != "deny":
        return False
    if deciding.guard == "duplicate_alert":  # a running rollback that the alert opened pages by itself
        outcome = facts.latest.outcome if facts.latest else None
        is_left_alone = trouble_visible and outcome in ("succeeded", "cancelled")
        return did_not_help(incident, facts, now) or is_left_alone
    return deciding.guard not in _TEMPORARY and (incident.forced or trouble_visible)

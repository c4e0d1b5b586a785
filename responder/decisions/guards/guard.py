"""A guard: one question about an incident, answered from facts alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from foundation.models import FrozenModel
from responder.decisions.facts import Facts
from responder.decisions.incidents import Incident

Kind = Literal["allow", "deny", "require_approval"]

Answer = tuple[Kind, str]
"""A result and the reason for it, which an engineer understands at 3 a.m."""

NOT_EVALUATED = "not evaluated: another guard denied it"


class GuardResult(FrozenModel):
    """The result of one guard. Every guard runs, and every result is kept."""

    guard: str
    result: Kind
    reason: str


@dataclass(frozen=True)
class Guard:
    """A pure function with its documentation."""

    name: str
    answer: Callable[[Incident, Facts, datetime], Answer]
    bypassed: bool = False  # a rollback that a person requested bypasses it
    live: bool = False  # depends on live data: evaluated again before the first change and on approval
    temporary: bool = False  # a denial means "not ours", "not yet" or "as configured": no one needs to take over

    def evaluate(self, incident: Incident, facts: Facts, now: datetime) -> GuardResult:
        """The guard's result at that moment."""
        if self.bypassed and incident.forced:
            result, reason = requested(incident)
        else:
            result, reason = self.answer(incident, facts, now)
        return GuardResult(guard=self.name, result=result, reason=reason)


def guard(
    *, bypassed: bool = False, live: bool = False, temporary: bool = False
) -> Callable[[Callable[[Incident, Facts, datetime], Answer]], Guard]:
    """Makes a guard from a function, with the function's name."""

    def make(answer: Callable[[Incident, Facts, datetime], Answer]) -> Guard:
        return Guard(answer.__name__, answer, bypassed=bypassed, live=live, temporary=temporary)

    return make


def requested(incident: Incident) -> Answer:
    """The result of a guard that a person's request bypasses."""
    return "allow", f"bypassed: requested by {incident.requested_by}"

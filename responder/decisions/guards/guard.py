"""What a guard is: one question about an incident, answered from facts alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from responder.decisions.facts import Facts
from responder.decisions.incidents import Incident

Kind = Literal["allow", "deny", "require_approval"]

Answer = tuple[Kind, str]
"""A result and the reason for it, which an engineer understands at 3 a.m."""

NOT_ASKED = "not asked: something else speaks against it"


class GuardResult(BaseModel):
    """The answer of one guard. Every guard is asked and every answer is kept."""

    model_config = ConfigDict(frozen=True)

    guard: str
    result: Kind
    reason: str


@dataclass(frozen=True)
class Guard:
    """A pure function with its documentation."""

    name: str
    question: str
    answer: Callable[[Incident, Facts, datetime], Answer]
    bypassed: bool = False  # not asked about a rollback that a person requested
    live: bool = False  # the answer can change without us: asked again before the first change and after an approval
    temporary: bool = False  # a denial means "not ours", "not yet" or "as configured": no person has to take over

    def ask(self, incident: Incident, facts: Facts, now: datetime) -> GuardResult:
        """The guard's answer at that moment."""
        if self.bypassed and incident.forced:
            result, reason = requested(incident)
        else:
            result, reason = self.answer(incident, facts, now)
        return GuardResult(guard=self.name, result=result, reason=reason)


def guard(
    question: str, *, bypassed: bool = False, live: bool = False, temporary: bool = False
) -> Callable[[Callable[[Incident, Facts, datetime], Answer]], Guard]:
    """Makes a guard of a function, under the function's name."""

    def make(answer: Callable[[Incident, Facts, datetime], Answer]) -> Guard:
        return Guard(answer.__name__, question, answer, bypassed=bypassed, live=live, temporary=temporary)

    return make


def requested(incident: Incident) -> Answer:
    """The answer of a guard that a person's request bypasses."""
    return "allow", f"not asked: requested by {incident.requested_by}"

"""Whether other services deny the rollback: too many in trouble, too many rollbacks, a failing dependency."""

from __future__ import annotations

from datetime import datetime

from foundation.durations import format_duration
from responder.config.text import counted
from responder.decisions.facts import Facts
from responder.decisions.guards.guard import NOT_EVALUATED, Answer, guard
from responder.decisions.incidents import Incident


@guard(bypassed=True, live=True)
def circuit_breaker(incident: Incident, facts: Facts, now: datetime) -> Answer:
    """Are many services in trouble at once? Then the deployment of one service is not the cause."""
    fleet, limit = facts.fleet, facts.limits.circuit_breaker
    if fleet is None:
        return "allow", NOT_EVALUATED
    others = sorted({*fleet.also_in_trouble, *(facts.live.also_in_trouble if facts.live else ())})
    if len(others) + 1 < limit.services:
        return "allow", f"{counted(len(others), 'other service')} in trouble"
    named = ", ".join(others[:5]) + (" …" if len(others) > 5 else "")
    at_least = "at least " if len(others) >= limit.counted else ""
    return "deny", (
        f"{at_least}{len(others) + 1} services are in trouble within {format_duration(limit.within)} (also {named}): "
        "a single deployment is not the cause"
    )


@guard(bypassed=True)
def rate_limit(incident: Incident, facts: Facts, now: datetime) -> Answer:
    """Did too many rollbacks start within the last hour?

    Limits the damage of a wrong policy or alert.
    """
    fleet, allowed = facts.fleet, facts.limits.rollbacks_per_hour
    if fleet is None:
        return "allow", NOT_EVALUATED
    if fleet.begun_lately < allowed:
        return "allow", f"rollbacks in the last hour: {fleet.begun_lately}"
    again = f" (next allowed at {fleet.next_place_at:%H:%M:%S} UTC)" if fleet.next_place_at else ""
    return "deny", f"rollbacks in the last hour: {fleet.begun_lately}, allowed: {allowed}{again}"


@guard(bypassed=True, live=True)
def dependencies(incident: Incident, facts: Facts, now: datetime) -> Answer:
    """Is a dependency failing or being rolled back?

    If a dependency is the cause, rolling back this service does not help.
    """
    if facts.fleet is None:
        return "allow", NOT_EVALUATED
    if facts.fleet.needs_locked:
        return "deny", f"a dependency is being rolled back: {', '.join(facts.fleet.needs_locked)}"
    if facts.live and facts.live.needs_failing:
        return "deny", f"a dependency is failing: {'; '.join(facts.live.needs_failing)}"
    return "allow", "no dependency is failing"

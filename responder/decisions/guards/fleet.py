"""Whether other services speak against it: too many in trouble, too many rollbacks, a failing dependency."""

from __future__ import annotations

from datetime import datetime

from foundation.durations import format_duration
from responder.decisions.facts import Facts
from responder.decisions.guards.guard import NOT_ASKED, Answer, guard
from responder.decisions.incidents import Incident


@guard("Are many services in trouble at once?", bypassed=True, live=True)
def circuit_breaker(incident: Incident, facts: Facts, now: datetime) -> Answer:
    """Many services in trouble at once have another cause than the deployment of one of them."""
    fleet, limit = facts.fleet, facts.limits.circuit_breaker
    if fleet is None:
        return "allow", NOT_ASKED
    others = sorted({*fleet.also_in_trouble, *(facts.live.also_in_trouble if facts.live else ())})
    if len(others) + 1 < limit.services:
        return "allow", f"{len(others)} other services are in trouble"
    named = ", ".join(others[:5]) + (" …" if len(others) > 5 else "")
    return "deny", (
        f"{len(others) + 1} services are in trouble within {format_duration(limit.within)} (also {named}): "
        "that is not the deployment of one of them"
    )


@guard("Were too many rollbacks started within the hour?", bypassed=True)
def rate_limit(incident: Incident, facts: Facts, now: datetime) -> Answer:
    """Automation that is wrong is wrong often."""
    fleet, allowed = facts.fleet, facts.limits.rollbacks_per_hour
    if fleet is None:
        return "allow", NOT_ASKED
    if fleet.begun_lately < allowed:
        return "allow", f"rollbacks in the last hour: {fleet.begun_lately}"
    again = f" (again at {fleet.next_place_at:%H:%M:%S} UTC)" if fleet.next_place_at else ""
    return "deny", f"rollbacks in the last hour: {fleet.begun_lately}, allowed: {allowed}{again}"


@guard("Is a dependency failing or being rolled back?", bypassed=True, live=True)
def dependencies(incident: Incident, facts: Facts, now: datetime) -> Answer:
    """The cause is rolled back, not its symptoms."""
    if facts.fleet is None:
        return "allow", NOT_ASKED
    if facts.fleet.needs_locked:
        return "deny", f"it depends on what is being rolled back: {', '.join(facts.fleet.needs_locked)}"
    if facts.live and facts.live.needs_failing:
        return "deny", f"it depends on what is failing itself: {'; '.join(facts.live.needs_failing)}"
    return "allow", "nothing that it depends on is failing"

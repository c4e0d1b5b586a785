"""Whether to keep the logs of a service by themselves: pure functions, as the guards of a rollback are.

Nothing is touched by it, so neither the mode nor the live state of the alert is asked for.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from responder.durations import format_duration
from responder.guards import Guard, Kind, known, stopped
from responder.policies import Incident
from responder.survey import Situation

_KEEPS_THEM = ("accepted", "held", "running", "turning_back")


def episode(incident: Incident, situation: Situation, now: datetime) -> tuple[Kind, str]:
    """A re-sent alert is a no-op."""
    if situation.kept_for:
        return "refuse", f"logs were kept for this alert already: {situation.kept_for}"
    return "allow", "no logs were kept for this alert before"


def single_flight(incident: Incident, situation: Situation, now: datetime) -> tuple[Kind, str]:
    """A rollback keeps the evidence itself, before it touches anything."""
    latest = situation.latest
    if latest and latest.state in _KEEPS_THEM:
        return "refuse", f"the rollback {latest.id} is under way, which keeps them itself"
    return "allow", "no rollback of it is under way"


def cooldown(incident: Incident, situation: Situation, now: datetime) -> tuple[Kind, str]:
    """Counted from when the policy last kept logs of the service by themselves."""
    if last := situation.kept_last:
        until = last.asked_at + timedelta(seconds=incident.policy.cooldown)
        if now < until:
            left = format_duration((until - now).total_seconds() // 1)
            return "refuse", f"cooling down for another {left} after {last.id} (until {until:%H:%M:%S} UTC)"
    return "allow", "no cooldown is running"


KEEPING: tuple[Guard, ...] = (stopped, known, episode, single_flight, cooldown)
"""In the order in which they decide."""

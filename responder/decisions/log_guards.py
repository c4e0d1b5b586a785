"""Whether to keep the logs of a service by themselves: pure functions, as the guards of a rollback are.

Nothing is touched by it, so neither the mode nor the live state of the alert is asked for.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from responder.config.durations import format_duration
from responder.decisions.facts import Facts
from responder.decisions.guards import Guard, Kind, kill_switch, service_configured
from responder.decisions.policies import Incident

_KEEPS_THEM = ("accepted", "awaiting_approval", "running", "reverting")


def duplicate_alert(incident: Incident, facts: Facts, now: datetime) -> tuple[Kind, str]:
    """A re-sent alert is a no-op."""
    if facts.kept_for:
        return "deny", f"logs were kept for this alert already: {facts.kept_for}"
    return "allow", "no logs were kept for this alert before"


def in_progress(incident: Incident, facts: Facts, now: datetime) -> tuple[Kind, str]:
    """A rollback keeps the evidence itself, before it touches anything."""
    latest = facts.latest
    if latest and latest.state in _KEEPS_THEM:
        return "deny", f"the rollback {latest.id} is under way, which keeps them itself"
    return "allow", "no rollback of it is under way"


def cooldown(incident: Incident, facts: Facts, now: datetime) -> tuple[Kind, str]:
    """Counted from when the policy last kept logs of the service by themselves."""
    if last := facts.kept_last:
        until = last.requested_at + timedelta(seconds=incident.policy.cooldown)
        if now < until:
            left = format_duration((until - now).total_seconds() // 1)
            return "deny", f"cooling down for another {left} after {last.id} (until {until:%H:%M:%S} UTC)"
    return "allow", "no cooldown is running"


KEEPING: tuple[Guard, ...] = (kill_switch, service_configured, duplicate_alert, in_progress, cooldown)
"""In the order in which they decide."""

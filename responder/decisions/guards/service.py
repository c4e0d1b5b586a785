"""Whether the service is free for a rollback: configured, not rolled back already, and not too often."""

from __future__ import annotations

from datetime import datetime, timedelta

from foundation.durations import format_duration
from responder.decisions.facts import Facts
from responder.decisions.guards.guard import Answer, guard
from responder.decisions.incidents import Incident


@guard(temporary=True)
def service_configured(incident: Incident, facts: Facts, now: datetime) -> Answer:
    """Is the service configured?

    Labels can only select configured services.
    """
    if facts.service is None:
        return "deny", facts.service_problem
    return "allow", f"{facts.service.name} in {facts.service.environment} is configured"


@guard()
def duplicate_alert(incident: Incident, facts: Facts, now: datetime) -> Answer:
    """Has this alert opened a rollback of this deployment before?"""
    latest = facts.latest
    if latest and latest.ended_at and did_not_help(incident, facts, now):
        names = ", ".join(sorted({alert.name for alert in incident.alerts})[:3])
        since = format_duration((now - latest.ended_at).total_seconds() // 1)
        return "deny", f"rollback {latest.id} did not help: {names} still fires {since} after it was verified"
    if facts.opened:
        is_over = latest is not None and latest.id == facts.opened and latest.ended_at is not None
        ended = f" ({latest.outcome} at {latest.ended_at:%H:%M:%S} UTC)" if latest and is_over else ""
        return "deny", f"this alert already opened rollback {facts.opened}{ended}"
    return "allow", "this alert has not opened a rollback before"


@guard(temporary=True)
def in_progress(incident: Incident, facts: Facts, now: datetime) -> Answer:
    """Is another rollback of the service open or stuck?

    A stuck rollback locks its service until a person closes it.
    """
    latest = facts.latest
    if latest is None or latest.state == "closed":
        return "allow", "no other rollback of the service is in progress"
    if latest.state == "stuck":
        hint = f"responder close {latest.id}"
        return "deny", f"rollback {latest.id} is stuck and needs a human: {latest.reason} ({hint})"
    return "deny", f"rollback {latest.id} is in progress ({latest.state})"


@guard(bypassed=True)
def cooldown(incident: Incident, facts: Facts, now: datetime) -> Answer:
    """Did the policy's last rollback of the service end long enough ago?

    Counts from the end of the rollback, for any alert that opened it.
    """
    last = facts.last_of_policy
    return cooling_down(last.id, last.ended_at, incident, now) if last and last.ended_at else NO_COOLDOWN


NO_COOLDOWN: Answer = ("allow", "no cooldown is active")


def cooling_down(after: str, since: datetime, incident: Incident, now: datetime) -> Answer:
    """Denies until the policy's cooldown after that moment is over."""
    until = since + timedelta(seconds=incident.policy.cooldown)
    if now >= until:
        return NO_COOLDOWN
    left = format_duration((until - now).total_seconds() // 1)
    return "deny", f"cooling down for another {left} after {after} (until {until:%H:%M:%S} UTC)"


def did_not_help(incident: Incident, facts: Facts, now: datetime) -> bool:
    """Whether an alert still fires although the rollback that it opened succeeded `resolved_within` ago."""
    latest = facts.latest
    if latest is None or latest.id != facts.opened or latest.outcome != "succeeded" or latest.ended_at is None:
        return False
    return (now - latest.ended_at).total_seconds() > incident.policy.verify.resolved_within

"""Whether automation may act at all: its kill switches, its watchdog and the mode of the policy."""

from __future__ import annotations

from datetime import datetime

from responder.decisions.facts import Facts
from responder.decisions.guards.guard import Answer, guard
from responder.decisions.incidents import Incident


@guard()
def kill_switch(incident: Incident, facts: Facts, now: datetime) -> Answer:
    """Is automation stopped, by the stop file or `responder stop --all`?

    Also denies forced rollbacks.
    """
    if facts.stopped:
        return "deny", f"automation is off: {facts.stopped}"
    return "allow", "neither the stop file nor the kill switch is set"


@guard(bypassed=True, live=True)
def armed(incident: Incident, facts: Facts, now: datetime) -> Answer:
    """Is the watchdog alert received, and not silenced?"""
    if reason := facts.disarmed or (facts.live.disarmed if facts.live else ""):
        return "deny", f"automation is disarmed: {reason}"
    return "allow", "automation is armed"


@guard(temporary=True)
def freeze_window(incident: Incident, facts: Facts, now: datetime) -> Answer:
    """Is a freeze window active? If so, a person must approve."""
    service = facts.service
    freezes = [f.name for f in facts.freezes if service and f.holds(service.name, service.environment, now)]
    if not freezes:
        return "allow", "no freeze window"
    names = ", ".join(freezes)
    if incident.forced:
        return "allow", f"frozen by {names}, but requested by {incident.requested_by}"
    return "require_approval", f"frozen by {names}: approval required"


@guard(temporary=True)
def mode(incident: Incident, facts: Facts, now: datetime) -> Answer:
    """Is the policy in mode observe, approve or auto?

    Evaluated last, so that observe mode records exactly what auto mode would do.
    """
    if incident.forced:
        return "allow", f"requested by {incident.requested_by}"
    match incident.policy.mode:
        case "observe":
            return "deny", "observe mode: would have acted"
        case "approve":
            return "require_approval", f"policy {incident.policy.name} requires approval"
        case "auto":
            return "allow", "auto mode"

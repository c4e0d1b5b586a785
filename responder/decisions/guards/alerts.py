"""Whether the alert still fires now and its trouble is still visible."""

from __future__ import annotations

from datetime import datetime

from responder.decisions.facts import Facts
from responder.decisions.guards.guard import NOT_EVALUATED, Answer, guard, requested
from responder.decisions.incidents import Incident


@guard(live=True, temporary=True)
def still_firing(incident: Incident, facts: Facts, now: datetime) -> Answer:
    """Is the alert firing now, and not silenced?

    Queries Alertmanager, because a webhook body may be late, replayed or forged.
    """
    if incident.by_name or facts.live is None:
        return requested(incident) if incident.forced else ("allow", NOT_EVALUATED)
    match facts.live.state:
        case "firing":
            return "allow", facts.live.reason
        case "suppressed":
            return "deny", f"muted in Alertmanager: {facts.live.reason}"
        case "gone":
            return "deny", f"already resolved: {facts.live.reason}"
        case "unknown":
            return "deny", f"cannot tell whether an alert still fires: {facts.live.reason}"


@guard(bypassed=True, live=True, temporary=True)
def trouble_now(incident: Incident, facts: Facts, now: datetime) -> Answer:
    """Is the trouble visible in the last scrapes?

    An alert has a long window: it may still fire after the service has recovered.
    """
    if facts.live is None:
        return "allow", NOT_EVALUATED
    trouble = facts.live.trouble_now
    if trouble is None:
        return "deny", "cannot tell whether the trouble persists: not queried"
    return "allow" if trouble.state == "visible" else "deny", trouble.reason

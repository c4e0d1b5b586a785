"""Whether the alert still fires now and its trouble is still visible."""

from __future__ import annotations

from datetime import datetime

from responder.decisions.facts import Facts
from responder.decisions.guards.guard import NOT_ASKED, Answer, guard, requested
from responder.decisions.incidents import Incident


@guard("Does the alert fire now, and is it not silenced?", live=True, temporary=True)
def still_firing(incident: Incident, facts: Facts, now: datetime) -> Answer:
    """Alertmanager is asked, because a webhook body may be late, replayed or forged."""
    if incident.by_name or facts.live is None:
        return requested(incident) if incident.forced else ("allow", NOT_ASKED)
    match facts.live.state:
        case "firing":
            return "allow", facts.live.reason
        case "suppressed":
            return "deny", f"muted in Alertmanager: {facts.live.reason}"
        case "gone":
            return "deny", f"resolved by now: {facts.live.reason}"
        case "unknown":
            return "deny", f"cannot tell whether it still fires: {facts.live.reason}"


@guard("Is the trouble visible in the last scrapes?", bypassed=True, live=True, temporary=True)
def trouble_now(incident: Incident, facts: Facts, now: datetime) -> Answer:
    """The window of an alert is long: it may still fire when the service has recovered."""
    if facts.live is None:
        return "allow", NOT_ASKED
    trouble = facts.live.trouble_now
    if trouble is None:
        return "deny", "cannot tell whether the trouble lasts: it was not asked"
    return "allow" if trouble.state == "visible" else "deny", trouble.reason

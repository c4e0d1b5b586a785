"""Whether the running version is to blame, and whether there is a version to roll back to."""

from __future__ import annotations

from datetime import datetime

from foundation.durations import format_duration
from responder.decisions.facts import Facts
from responder.decisions.guards.guard import Answer, guard, requested
from responder.decisions.incidents import Incident
from responder.services.registry import NEVER_A_TARGET


@guard()
def deployed_within(incident: Incident, facts: Facts, now: datetime) -> Answer:
    """Was it deployed recently, and did the trouble begin after that?

    Only a recent deployment can be the cause of the trouble.
    """
    running, window = facts.running, incident.policy.deployed_within
    if running is None:
        return "deny", "nothing to roll back: no deployment was reported (responder deployed SERVICE VERSION)"
    if incident.forced:
        return requested(incident)
    if running.rolled_back_by:
        reason = f"the last change was rollback {running.rolled_back_by}: rolling back further requires a human"
        return "deny", reason
    age = (now - running.at).total_seconds()
    deployed = f"{running.version} was deployed {format_duration(max(age, 0) // 1)} ago"
    if age > window:
        return "deny", f"nothing to roll back: {deployed}, longer than deployed_within ({format_duration(window)})"
    if older := _older_than_deployment(incident, facts, now):
        return "deny", f"nothing to roll back: {older}"
    return "allow", f"{deployed}, within {format_duration(window)}"


def _older_than_deployment(incident: Incident, facts: Facts, now: datetime) -> str:
    """Why the trouble is older than the deployment; empty if nothing shows that it is."""
    live, verified, suspected = facts.live, facts.verified_at, facts.suspected
    began = [alert.starts_at for alert in incident.alerts] + ([live.began_at] if live and live.began_at else [])
    # A rollback that was verified in between saw the service healthy: what began before that is another trouble.
    onset = min((at for at in began if verified is None or at > verified), default=now)
    delay = facts.service.reporting_delay if facts.service else 0.0
    if suspected and (lead := (suspected.at - onset).total_seconds()) > delay:
        before = f"{format_duration(lead // 1)} before {suspected.version} was deployed"
        return f"the trouble began {before}, so the deployment is not the cause"
    return live.older_trouble if live else ""


@guard(bypassed=True)
def restored_version(incident: Incident, facts: Facts, now: datetime) -> Answer:
    """Was a known-good version restored over a newer one?

    A restored known-good version is not rolled back: the newer version that it replaced is to blame.
    """
    running, replaced = facts.running, facts.replaced
    if running is None or replaced is None:
        return "allow", "the running version did not replace a newer one"
    return (
        "deny",
        f"{running.version} was known good before and replaced the newer {replaced.version} at "
        f"{running.at:%H:%M:%S} UTC: {replaced.version} is to blame; rolling back further requires a human",
    )


@guard()
def target_version(incident: Incident, facts: Facts, now: datetime) -> Answer:
    """Is there a known-good version to roll back to?

    A person may name a candidate, but never a version that is bad, suspect or retired.
    """
    running, target = facts.running, facts.target
    if running is None:
        return "deny", "the running version is unknown"
    if target is None and incident.version is not None:
        return "deny", f"version {incident.version} is unknown: it was never deployed here"
    if target is None:
        hint = f"responder versions {incident.service}"
        return "deny", f"no version other than {running.version} is known good ({hint})"
    if target.version == running.version:
        return "deny", f"{target.version} is already running"
    if target.status in NEVER_A_TARGET:
        return "deny", f"{target.version} is {target.status}"
    if target.status != "good" and not incident.forced:
        return "deny", f"{target.version} is a {target.status}, not known good"
    return "allow", f"target {target.version} is {target.status}"


@guard()
def protected_version(incident: Incident, facts: Facts, now: datetime) -> Answer:
    """Would the rollback pass a version marked `no_rollback`?

    A protected version, such as a security fix, is never removed.
    """
    if past := facts.no_rollback_past:
        return "deny", f"must not be rolled back past {past} (responder mark {incident.service} VERSION --lift)"
    return "allow", "no version after the target is marked no_rollback"


@guard()
def compatibility(incident: Incident, facts: Facts, now: datetime) -> Answer:
    """Do the resulting versions work with each other?"""
    if facts.incompatible:
        return (
            "deny",
            f"incompatible versions: {'; '.join(facts.incompatible)} "
            "(roll the services back together, or report --requires)",
        )
    return "allow", "all known version requirements are met"


@guard(bypassed=True)
def once_per_version(incident: Incident, facts: Facts, now: datetime) -> Answer:
    """Was the running version rolled back before?

    An engineer who deployed it again, or stopped a rollback, may have had a reason.
    """
    before = facts.tried_before
    if before is None:
        return "allow", "the running version was not rolled back before"
    if before.stop_requested_by:
        history = f"{before.stop_requested_by} stopped {before.id}, a rollback of {before.from_version}"
    elif before.outcome is None:
        history = f"{before.id}, a rollback of {before.from_version}, is {before.state}"
    elif before.outcome != "succeeded":
        history = f"{before.id}, an earlier rollback of {before.from_version}, was {before.outcome}"
    else:
        history = f"{before.from_version} was rolled back before by {before.id} and deployed again"
    return "deny", f"{history}: a human must decide"

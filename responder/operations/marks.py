"""Marks versions automatically: after a rollback that did not help, or if a restored version fixed the trouble."""

from __future__ import annotations

from datetime import datetime, timedelta

from responder.decisions.facts import Facts
from responder.decisions.guards import did_not_help
from responder.decisions.incidents import Incident
from responder.journal import Transaction
from responder.services import registry


async def mark_ineffective(tx: Transaction, incident: Incident, facts: Facts, now: datetime) -> None:
    """Marks both versions suspect if the alert that opened a rollback still fires long after it was verified."""
    service, latest = facts.service, facts.latest
    if service is None or latest is None or not did_not_help(incident, facts, now):
        return
    for version, expected in ((latest.from_version, "bad"), (latest.to_version, "good")):
        known = await tx.first("version", service=service.name, environment=service.environment, version=version)
        if known and known["status"] == expected:
            reason = f"{incident.title} still fires after {latest.id}"
            await registry.mark(tx, service.name, service.environment, version, "suspect", reason, now)


async def mark_replaced(tx: Transaction, incident: Incident, facts: Facts, now: datetime) -> None:
    """Marks the replaced version bad if the trouble began while it ran."""
    running, replaced, service = facts.running, facts.replaced, facts.service
    if running is None or replaced is None or service is None or incident.policy.mode == "observe":
        return
    if incident.forced or not incident.alerts or replaced.status in registry.NEVER_A_TARGET:
        return
    live, delay = facts.live, timedelta(seconds=service.reporting_delay)
    if live is None or live.trouble_now is None or live.older_trouble:
        return  # the state before its deployment is unknown, or was the same
    began = min([*(alert.starts_at for alert in incident.alerts), *([live.began_at] if live.began_at else [])])
    lately = replaced.at + timedelta(seconds=incident.policy.deployed_within)
    # A good version is not blamed for trouble that began after its replacement.
    latest = running.at if replaced.status == "good" else running.at + delay
    if replaced.at - delay <= began <= min(latest, lately):
        reason = f"{incident.title}: it was replaced by {running.version} at {running.at:%Y-%m-%d %H:%M:%S} UTC"
        await registry.mark(tx, service.name, service.environment, replaced.version, "bad", reason, now)

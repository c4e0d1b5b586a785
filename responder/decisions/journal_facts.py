"""Collects what the journal knows about an incident."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from foundation.durations import format_duration
from responder.decisions.facts import Facts, KeptLast, Past, Replaced
from responder.decisions.fleet import returned_at
from responder.decisions.incidents import Incident
from responder.decisions.policy_set import PolicySet
from responder.decisions.target import choose_target, incompatibilities
from responder.journal import Row, Transaction, decisions, deployments
from responder.journal.deployments import Deployment
from responder.services.service import Service

WATCHDOG = "watchdog"
"""The name of its heartbeat in the journal."""


async def gather(
    tx: Transaction, incident: Incident, policy_set: PolicySet, now: datetime, parent: Incident | None = None
) -> Facts:
    """What the journal knows about the service, in the transaction that also records the decision.

    `parent`: the incident of the whole rollback, if several services are rolled back together.
    """
    switch = await decisions.kill_switch(tx)
    stopped = policy_set.stop_file_says() or (f"stopped by {switch.set_by}: {switch.reason}" if switch else "")
    service, problem = policy_set.service(incident.service, incident.environment)
    if service and incident.action == "preserve_logs":
        return await _gather_for_logs(tx, incident, service, stopped)
    if service and service.strategy(incident.strategy or "") is None:
        problem, service = f"{service.name} has no strategy {incident.strategy!r}", None
    if service is None:
        return Facts(stopped=stopped, service_problem=problem)
    name, environment = service.name, service.environment
    where = {"service": name, "environment": environment}
    running = await deployments.newest(tx, name, environment)
    # A repeated report is not a new deployment: the first report says since when this version runs and who deployed it.
    since = await tx.first("version_runs_since", **where, version=running.version) if running else None
    running = running.model_copy(update=dict(since)) if running and since else running
    replaced = await tx.first("replaced_version", **where, **_restored(running)) if _restored(running) else None
    verified = await _verified_before(tx, where, running, incident) if running else None
    before = await tx.first("rollback_of_version", **where, version=running.version) if running else None
    target = await choose_target(tx, incident, running) if running else None
    protected = await tx.first("protected_since", **where, target=target.version) if target else None
    latest = await tx.first("latest_of_service", **where)
    last = await tx.first("last_of_policy", **where, policy=incident.policy.name)
    return Facts(
        service=service,
        stopped=stopped,
        disarmed=await watchdog_missing(tx, policy_set, now),
        opened=await _opened(tx, incident, name, environment, running),
        running=running,
        replaced=Replaced.model_validate(dict(replaced)) if replaced else None,
        returned_at=await returned_at(tx, parent or incident, now),
        verified_at=verified,
        target=target,
        incompatible=await incompatibilities(tx, parent or incident, policy_set, service, target) if target else (),
        no_rollback_past=f"{protected['version']}: {protected['no_rollback']}" if protected else "",
        tried_before=Past.model_validate(before) if before else None,
        latest=Past.model_validate(latest) if latest else None,
        last_of_policy=Past.model_validate(last) if last else None,
        limits=policy_set.limits,
        freezes=policy_set.freezes,
    )


async def _gather_for_logs(tx: Transaction, incident: Incident, service: Service, stopped: str) -> Facts:
    where = {"service": service.name, "environment": service.environment}
    latest = await tx.first("latest_of_service", **where)
    last = await tx.first("last_evidence_of_policy", **where, policy=incident.policy.name)
    since = min(alert.starts_at for alert in incident.alerts)
    rows = await tx.all("evidence_alerts_since", **where, policy=incident.policy.name, since=since)
    kept = {(row["fingerprint"], row["starts_at"]): str(row["evidence"]) for row in rows}
    return Facts(
        service=service,
        stopped=stopped,
        running=await deployments.newest(tx, service.name, service.environment),
        latest=Past.model_validate(latest) if latest else None,
        kept_for=next((kept[key] for a in incident.alerts if (key := (a.fingerprint, a.starts_at)) in kept), None),
        kept_last=KeptLast.model_validate(last) if last else None,
    )


def _restored(running: Deployment | None) -> dict[str, Any]:
    """Parameters of the query for the version that the running one replaced; empty if that is not known good."""
    if running is None or running.status != "good" or running.rolled_back_by:
        return {}
    return {"version": running.version, "at": running.at}


async def _verified_before(
    tx: Transaction, where: dict[str, str], running: Deployment, incident: Incident
) -> datetime | None:
    since = running.at - timedelta(seconds=incident.policy.deployed_within)
    row = await tx.first("last_success_between", **where, since=since, until=running.at)
    return row["at"] if row else None


async def _opened(
    tx: Transaction, incident: Incident, name: str, environment: str, running: Deployment | None
) -> str | None:
    """The rollback of the running deployment, or to it, that an alert of the incident opened before."""
    if not incident.alerts:
        return None
    rows = await tx.all(
        "opening_alerts_since",
        policy=incident.policy.name,
        service=name,
        environment=environment,
        since=min(alert.starts_at for alert in incident.alerts),
    )
    opened = {(row["fingerprint"], row["starts_at"]): str(row["execution"]) for row in rows if _is_about(row, running)}
    return next((opened[key] for a in incident.alerts if (key := (a.fingerprint, a.starts_at)) in opened), None)


def _is_about(episode: Row, running: Deployment | None) -> bool:
    """Whether an opening alert is about the running deployment, or about the one that its rollback replaced."""
    return running is None or running.at == episode["deployed_at"] or running.rolled_back_by == episode["execution"]


async def watchdog_missing(tx: Transaction, policy_set: PolicySet, now: datetime) -> str:
    """Why automation is disarmed: the watchdog alert is late. Empty if it is not, or none is configured."""
    if policy_set.watchdog is None:
        return ""
    allowed = 2 * policy_set.watchdog.interval
    last_heartbeat = await decisions.last_heartbeat(tx, WATCHDOG)
    if last_heartbeat is None:
        return "no watchdog alert has arrived through Alertmanager yet"
    silent = (now - last_heartbeat).total_seconds()
    if silent <= allowed:
        return ""
    return (
        f"the last watchdog alert arrived {format_duration(silent // 1)} ago, more than {format_duration(allowed)}: "
        "the path from Prometheus to the responder is broken or silenced"
    )

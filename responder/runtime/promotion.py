"""Promotes a candidate to known good once it has run for the soak time: healthy, with traffic, and without trouble."""

from __future__ import annotations

from datetime import datetime, timedelta

from foundation.durations import format_duration
from responder.backends.prometheus.promql_check import PromqlCheck
from responder.decisions.journal_facts import watchdog_missing
from responder.decisions.policy_set import PolicySet
from responder.journal import Database, Transaction, deployments
from responder.journal.deployments import Deployment
from responder.rollback.gateway import Gateway
from responder.services import registry
from responder.services.service import Service

_TRAFFIC_SAMPLES = 10
"""Number of points in the soak time that need traffic. Traffic at its end alone proves too little."""


async def _due(tx: Transaction, policy_set: PolicySet, now: datetime) -> list[Deployment]:
    if await watchdog_missing(tx, policy_set, now):
        return []  # without the watchdog, the absence of alerts says nothing
    due = []
    for deployment in await deployments.running_candidates(tx):
        service, _ = policy_set.service(deployment.service, deployment.environment)
        if service is None:
            continue
        ran = (now - deployment.at).total_seconds()
        if ran >= service.soak and await _untroubled(tx, deployment, policy_set):
            due.append(deployment)
    return due


async def _untroubled(tx: Transaction, deployment: Deployment, policy_set: PolicySet) -> bool:
    """Whether no alert requested a rollback of it, alone or together with other services."""
    named = [(p.name, p.roll_back) for p in policy_set.policies if p.together and isinstance(p.roll_back, tuple)]
    together = [(policy, services[0]) for policy, services in named if deployment.service in services]
    return await registry.untroubled_since(tx, deployment, together)


async def _had_traffic(service: Service, gateway: Gateway, now: datetime) -> bool:
    """Whether there was traffic during the soak time. Only Prometheus has a history; other checks are current."""
    for check in service.traffic_checks:
        if not isinstance(check, PromqlCheck):
            continue
        for sample in range(1, _TRAFFIC_SAMPLES):
            at = now - timedelta(seconds=service.soak * sample / _TRAFFIC_SAMPLES)
            if not (await gateway.held_at(check, at)).holds:
                return False
    return True


async def promote(journal: Database, policy_set: PolicySet, gateway: Gateway, now: datetime) -> list[Deployment]:
    """Promotes every candidate that qualifies, and returns their deployments."""
    promoted = []
    for deployment in await journal.read(_due, policy_set, now):
        service, _ = policy_set.service(deployment.service, deployment.environment)
        if service is None:
            continue
        findings = [await gateway.holds(check) for check in (*service.health_checks, *service.traffic_checks)]
        if not all(finding.holds for finding in findings) or not await _had_traffic(service, gateway, now):
            continue
        traffic = ", with traffic" if service.traffic_checks else ""
        why = f"healthy{traffic} and without alerts for {format_duration(service.soak)}"
        if await journal.transaction(_promote, deployment, policy_set, why, now):
            promoted.append(deployment)
    return promoted


async def _promote(tx: Transaction, deployment: Deployment, policy_set: PolicySet, why: str, now: datetime) -> bool:
    """Returns False if there was a mark, a deployment or an alert while the checks ran."""
    where = (deployment.service, deployment.environment)
    await deployments.hold(tx, where)
    if await deployments.newest(tx, *where) != deployment or not await _untroubled(tx, deployment, policy_set):
        return False
    return await registry.promote(tx, deployment, why, now)

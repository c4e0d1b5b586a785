"""A version becomes known good by having earned it: it ran its time, used and healthy, and nothing spoke against it."""

from __future__ import annotations

from datetime import datetime, timedelta

from responder.backends.prometheus.promql_check import PromqlCheck
from responder.config.durations import format_duration
from responder.decisions.journal_facts import watchdog_missing
from responder.decisions.policy_set import PolicySet
from responder.journal import Database, Transaction, deployments
from responder.journal.deployments import Deployment
from responder.rollback.gateway import Gateway
from responder.services import registry
from responder.services.service import Service

_MOMENTS = 10
"""At so many moments of its time a version must have been used: traffic at the end alone says little of the rest."""


async def _due(tx: Transaction, policy_set: PolicySet, now: datetime) -> list[Deployment]:
    if await watchdog_missing(tx, policy_set, now):
        return []  # that no alert came says nothing while none could come
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
    """Neither by itself nor with those that it is rolled back together with."""
    named = [(p.name, p.roll_back) for p in policy_set.policies if p.together and isinstance(p.roll_back, tuple)]
    together = [(policy, services[0]) for policy, services in named if deployment.service in services]
    return await registry.untroubled_since(tx, deployment, together)


async def _was_used(service: Service, gateway: Gateway, now: datetime) -> bool:
    """Only Prometheus remembers: of other checks for traffic there is no more than how it is now."""
    for check in service.traffic_checks:
        if not isinstance(check, PromqlCheck):
            continue
        for moment in range(1, _MOMENTS):
            at = now - timedelta(seconds=service.soak * moment / _MOMENTS)
            if not (await gateway.held(check, at)).holds:
                return False
    return True


async def promote(journal: Database, policy_set: PolicySet, gateway: Gateway, now: datetime) -> list[Deployment]:
    """Marks every version good that has earned it by now, and returns those."""
    promoted = []
    for deployment in await journal.read(_due, policy_set, now):
        service, _ = policy_set.service(deployment.service, deployment.environment)
        if service is None:
            continue
        findings = [await gateway.holds(check) for check in (*service.health_checks, *service.traffic_checks)]
        if not all(finding.holds for finding in findings) or not await _was_used(service, gateway, now):
            continue
        used = ", used" if service.traffic_checks else ""
        why = f"healthy{used} and without trouble for {format_duration(service.soak)}"
        if await journal.transaction(_promote, deployment, policy_set, why, now):
            promoted.append(deployment)
    return promoted


async def _promote(tx: Transaction, deployment: Deployment, policy_set: PolicySet, why: str, now: datetime) -> bool:
    """False where something was said of it, or deployed, while the checks were asked."""
    where = (deployment.service, deployment.environment)
    await deployments.hold(tx, where)
    if await deployments.newest(tx, *where) != deployment or not await _untroubled(tx, deployment, policy_set):
        return False
    return await registry.promote(tx, deployment, why, now)

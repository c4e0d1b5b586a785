"""A version becomes known good by having earned it: it ran its time, used and healthy, and nothing spoke against it."""

from __future__ import annotations

from datetime import datetime, timedelta

from responder.checks import PromqlCheck
from responder.durations import format_duration
from responder.journal import Database, Transaction, deployments
from responder.journal.deployments import Deployment
from responder.policies import Mandate
from responder.services import Service
from responder.survey import watchdog_missing
from responder.world import World

_MOMENTS = 10
"""At so many moments of its time a version must have been used: traffic at the end alone says little of the rest."""


async def _due(tx: Transaction, mandate: Mandate, now: datetime) -> list[Deployment]:
    if await watchdog_missing(tx, mandate, now):
        return []  # that no alert came says nothing while none could come
    due = []
    for deployment in await deployments.running_candidates(tx):
        service, _ = mandate.service(deployment.service, deployment.environment)
        if service is None:
            continue
        ran = (now - deployment.at).total_seconds()
        if ran >= service.good_after and await _untroubled(tx, deployment, mandate):
            due.append(deployment)
    return due


async def _untroubled(tx: Transaction, deployment: Deployment, mandate: Mandate) -> bool:
    """Neither by itself nor with those that it is rolled back together with."""
    named = [(p.name, p.roll_back) for p in mandate.policies if p.together and isinstance(p.roll_back, tuple)]
    together = [(policy, services[0]) for policy, services in named if deployment.service in services]
    return await deployments.untroubled_since(tx, deployment, together)


async def _was_used(service: Service, world: World, now: datetime) -> bool:
    """Only Prometheus remembers: of other checks for traffic there is no more than how it is now."""
    for check in service.traffic:
        if not isinstance(check, PromqlCheck):
            continue
        for moment in range(1, _MOMENTS):
            at = now - timedelta(seconds=service.good_after * moment / _MOMENTS)
            if not (await world.held(check, at)).holds:
                return False
    return True


async def promote(journal: Database, mandate: Mandate, world: World, now: datetime) -> list[Deployment]:
    """Marks every version good that has earned it by now, and returns those."""
    promoted = []
    for deployment in await journal.read(_due, mandate, now):
        service, _ = mandate.service(deployment.service, deployment.environment)
        if service is None:
            continue
        findings = [await world.holds(check) for check in (*service.healthy, *service.traffic)]
        if not all(finding.holds for finding in findings) or not await _was_used(service, world, now):
            continue
        used = ", used" if service.traffic else ""
        why = f"healthy{used} and without trouble for {format_duration(service.good_after)}"
        if await journal.transaction(_promote, deployment, mandate, why, now):
            promoted.append(deployment)
    return promoted


async def _promote(tx: Transaction, deployment: Deployment, mandate: Mandate, why: str, now: datetime) -> bool:
    """False where something was said of it, or deployed, while the checks were asked."""
    where = (deployment.service, deployment.environment)
    await deployments.hold(tx, where)
    if await deployments.newest(tx, *where) != deployment or not await _untroubled(tx, deployment, mandate):
        return False
    return await deployments.promote(tx, deployment, why, now)

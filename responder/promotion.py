"""A version becomes known good by having earned it: it ran its time, healthy, and no alert spoke against it."""

from __future__ import annotations

from datetime import datetime

from responder.durations import format_duration
from responder.journal import Database, Transaction, deployments
from responder.journal.deployments import Deployment
from responder.policies import Mandate
from responder.world import World


async def _due(tx: Transaction, mandate: Mandate, now: datetime) -> list[Deployment]:
    due = []
    for deployment in await deployments.running(tx):
        service, _ = mandate.service(deployment.service, deployment.environment)
        if deployment.status != "candidate" or service is None:
            continue
        ran = (now - deployment.at).total_seconds()
        if ran >= service.good_after and await deployments.untroubled_since(tx, deployment):
            due.append(deployment)
    return due


async def promote(journal: Database, mandate: Mandate, world: World, now: datetime) -> list[Deployment]:
    """Marks every version good that has earned it by now, and returns those."""
    promoted = []
    for deployment in await journal.read(_due, mandate, now):
        service, _ = mandate.service(deployment.service, deployment.environment)
        if service is None:
            continue
        findings = [await world.holds(check) for check in (*service.healthy, *service.traffic)]
        if not all(finding.holds for finding in findings):
            continue
        why = f"healthy and without trouble for {format_duration(service.good_after)}"
        where = (deployment.service, deployment.environment, deployment.version)
        await journal.transaction(deployments.mark, *where, "good", why, now)
        promoted.append(deployment)
    return promoted

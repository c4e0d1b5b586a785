"""Removes containers that a stalled replica created for a rollback that another replica has closed."""

from __future__ import annotations

from responder.backends.connections import Connections
from responder.backends.docker.client import Docker
from responder.backends.docker.containers import EXECUTION, labels_of
from responder.backends.docker.service_image import ServiceImage
from responder.backends.docker.slots import waits_for_slot
from responder.decisions.policy_set import PolicySet
from responder.errors import StepFailed, Unavailable
from responder.journal import Database, Transaction
from responder.rollback.strategies import resources_of


async def remove_leftovers(journal: Database, policy_set: PolicySet, connections: Connections) -> list[str]:
    """Removes never-started replacement containers of closed rollbacks, and returns their names.

    A replica that stalls for longer than its lease right before it creates a container can create it after the end of
    the rollback, and die before it removes it. Compose would count the container as one of the service. Containers of
    rollbacks that are not in this journal stay, and Docker refuses to remove a running one. If Docker does not answer,
    the next call retries.
    """
    strategies = (strategy for service in policy_set.services for strategy in (service.rollback, *service.alternatives))
    if not any(isinstance(resource, ServiceImage) for strategy in strategies for resource in resources_of(strategy)):
        return []
    removed = []
    try:
        docker = await connections.to(Docker)
        for container in await docker.never_started(EXECUTION, "_next_"):
            if waits_for_slot(container) and await journal.read(_is_closed, labels_of(container)[EXECUTION]):
                await docker.remove(container["Id"])
                removed.append(str(container["Name"]).lstrip("/"))
    except (StepFailed, Unavailable):
        pass
    return removed


async def _is_closed(tx: Transaction, execution: str) -> bool:
    row = await tx.first("execution", id=execution)
    return row is not None and row["state"] == "closed"

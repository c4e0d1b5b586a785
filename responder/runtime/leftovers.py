"""Removes what a replica made for a rollback after another replica had closed it."""

from __future__ import annotations

from responder.backends.connections import Connections
from responder.backends.docker.client import Docker
from responder.backends.docker.containers import EXECUTION, labels_of
from responder.backends.docker.service_image import ServiceImage
from responder.backends.docker.slots import waits_for_a_place
from responder.decisions.policy_set import PolicySet
from responder.errors import StepFailed, Unavailable
from responder.journal import Database, Transaction
from responder.rollback.strategies import resources_of


async def remove_leftovers(journal: Database, policy_set: PolicySet, connections: Connections) -> list[str]:
    """Removes containers that never took their place, of rollbacks that are closed; returns their names.

    A replica that stalls right before it makes one, for longer than its lease, can make it when all is over, and be
    killed before it removes it. Compose counts it as one of its service. What this journal does not know is not ours,
    and the engine itself refuses to remove one that somebody has started. An engine that cannot be asked is asked
    again at the next turn.
    """
    strategies = (strategy for service in policy_set.services for strategy in (service.rollback, *service.alternatives))
    if not any(isinstance(resource, ServiceImage) for strategy in strategies for resource in resources_of(strategy)):
        return []
    removed = []
    try:
        docker = await connections.to(Docker)
        for container in await docker.never_started(EXECUTION, "_next_"):
            if waits_for_a_place(container) and await journal.read(_is_closed, labels_of(container)[EXECUTION]):
                await docker.remove(container["Id"])
                removed.append(str(container["Name"]).lstrip("/"))
    except (StepFailed, Unavailable):
        pass
    return removed


async def _is_closed(tx: Transaction, execution: str) -> bool:
    row = await tx.first("execution", id=execution)
    return row is not None and row["state"] == "closed"

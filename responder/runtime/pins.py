"""Removes pins once another deployment is reported, so that the next `docker compose up` takes effect."""

from __future__ import annotations

from responder.backends.docker.service_image import ServiceImage
from responder.decisions.policy_set import PolicySet
from responder.errors import StepFailed
from responder.journal import Database, Transaction
from responder.rollback.gateway import Gateway
from responder.rollback.plan import Change
from responder.rollback.strategies import resources_of
from responder.services.pins import in_words, pins_of
from responder.services.service import Service


async def remove_outdated_pins(journal: Database, policy_set: PolicySet, gateway: Gateway) -> list[str]:
    """Removes the pins of services that were deployed after their rollback; returns them, in an engineer's words.

    A pin that somebody changed stays. If the file cannot be written, the next call retries. Changes nothing while a
    rollback is open.
    """
    removed: list[str] = []
    for service in filter(_has_containers, policy_set.services):
        for pin in await journal.read(_outdated, service.name, service.environment):
            try:
                if await gateway.read(pin.resource) == pin.after:
                    await gateway.write(pin.resource, None, expected=pin.after)
                    removed.append(in_words(pin))
            except StepFailed:
                continue
    return removed


def _has_containers(service: Service) -> bool:
    strategies = (service.rollback, *service.alternatives)
    return any(isinstance(resource, ServiceImage) for strategy in strategies for resource in resources_of(strategy))


async def _outdated(tx: Transaction, service: str, environment: str) -> tuple[Change, ...]:
    if await tx.all("open_execution_ids"):
        return ()  # it may just have written the same pin again
    pins = await pins_of(tx, service, environment)
    return pins.changes if pins.outdated else ()

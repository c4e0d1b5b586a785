"""Deployments that no pipeline reports: the responder looks which version runs, and records a new one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import NamedTuple
from uuid import uuid4

from responder.errors import ResponderError
from responder.journal import Database, Transaction, deployments
from responder.journal.deployments import Deployment
from responder.rollback.gateway import Gateway
from responder.services import registry
from responder.services.service import Service

_WITHIN = 15.0
"""Seconds to look at one service."""

_AT_ONCE = 16
"""Services that are looked at at the same time."""

_NOTHING_CHANGED_YET = ("awaiting_approval", "closed")
"""States of a rollback in which it is not the responder that changes the version."""


class _Recorded(NamedTuple):
    newest: Deployment | None
    rollback: tuple[str, str] | None  # ID and state of the latest one


class Observed(NamedTuple):
    """New deployments, and why other services could not be looked at, by name and environment."""

    new: list[Deployment]
    failed: dict[tuple[str, str], str]


async def observe(services: Iterable[Service], journal: Database, gateway: Gateway) -> Observed:
    """Records what runs, for services with `deployments: observed`."""
    observed, at_once = Observed([], {}), asyncio.Semaphore(_AT_ONCE)

    async def look(service: Service) -> None:
        try:
            async with at_once, asyncio.timeout(_WITHIN):
                new = await _observe(service, journal, gateway)
        except TimeoutError:
            observed.failed[service.name, service.environment] = f"no answer within {_WITHIN:g} s"
        except ResponderError as e:
            observed.failed[service.name, service.environment] = str(e)
        else:
            observed.new.extend([new] if new else [])

    await asyncio.gather(*(look(service) for service in services if service.deployments == "observed"))
    return observed


async def _observe(service: Service, journal: Database, gateway: Gateway) -> Deployment | None:
    before = await journal.read(_recorded, service)
    resource = service.observed
    if resource is None or (before.rollback and before.rollback[1] not in _NOTHING_CHANGED_YET):
        return None
    found, newest = await gateway.read(resource), before.newest
    if newest and await gateway.runs(resource, found, newest.version, newest.artifact):
        return None
    version, artifact = await gateway.version_of(resource, found)
    if not version or (newest and newest.version == version):
        return None
    deployment = Deployment(
        id=f"{version}-{uuid4().hex[:8]}",
        service=service.name,
        environment=service.environment,
        version=version,
        artifact=artifact,
        provenance=f"observed: {resource}",
        at=journal.now(),
        recorded_by="observed",
    )
    return deployment if await journal.transaction(_record, service, before, deployment) else None


async def _recorded(tx: Transaction, service: Service) -> _Recorded:
    where = {"service": service.name, "environment": service.environment}
    latest = await tx.first("latest_of_service", **where)
    newest = await deployments.newest(tx, service.name, service.environment)
    return _Recorded(newest, (latest["id"], latest["state"]) if latest else None)


async def _record(tx: Transaction, service: Service, before: _Recorded, deployment: Deployment) -> bool:
    """Returns False if there was a deployment or a rollback since the version was read: look again."""
    await deployments.hold(tx, (service.name, service.environment))
    return await _recorded(tx, service) == before and await registry.record(tx, deployment)

"""Collects what the journal knows about other services: their trouble, their rollbacks, and dependencies."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from responder.decisions.facts import FleetState
from responder.decisions.incidents import Incident
from responder.decisions.policy_set import PolicySet
from responder.journal import Transaction
from responder.services.service import Service

_HOUR = timedelta(hours=1)

_RECOVERING = timedelta(seconds=30)
"""How long a service may take to recover after one that it depends on was rolled back: two scrapes at 15 s."""


async def collect_fleet_state(
    tx: Transaction,
    incident: Incident,
    service: Service,
    policy_set: PolicySet,
    now: datetime,
    beside: Collection[str] = (),
) -> FleetState:
    """The state of the fleet. `beside`: services in trouble according to other alerts of the same webhook body."""
    begun = await tx.first("accepted_since", since=now - _HOUR)
    return FleetState(
        also_in_trouble=await also_in_trouble(tx, incident, service, policy_set, now, beside),
        begun_lately=begun["n"] if begun else 0,
        next_place_at=begun["first_at"] + _HOUR if begun and begun["first_at"] else None,
        needs_locked=await _needs_locked(tx, incident, service, policy_set, now),
    )


async def also_in_trouble(
    tx: Transaction,
    incident: Incident,
    service: Service,
    policy_set: PolicySet,
    now: datetime,
    beside: Collection[str] = (),
) -> tuple[str, ...]:
    """Other services that got into trouble within `limits.circuit_breaker.within` of this incident.

    It counts from the first decision about this incident, not from repetitions. Trouble that was invisible for a
    while also counts from its return. At most `limits.circuit_breaker.counted` services.
    """
    first = await tx.first("first_decided", incident=incident.id)
    began = [first["at"] if first and first["at"] else now, await returned_at(tx, incident, now)]
    breaker, connected = policy_set.limits.circuit_breaker, policy_set.connected_services(incident)
    within = timedelta(seconds=breaker.within)
    where = {"service": service.name, "environment": service.environment, "most": breaker.counted + len(connected)}
    rows = [
        row
        for at in began
        if at is not None
        for row in await tx.all("services_in_trouble", **where, since=at - within, until=at + within)
    ]
    return tuple(sorted({*(row["service"] for row in rows), *beside} - connected)[: breaker.counted])


async def returned_at(tx: Transaction, incident: Incident, now: datetime) -> datetime | None:
    """When the incident's trouble came back after it had been invisible; None if it had not."""
    row = await tx.first("trouble_returned", incident=incident.id)
    return (row["at"] or now) if row else None


async def _needs_locked(
    tx: Transaction, incident: Incident, service: Service, policy_set: PolicySet, now: datetime
) -> tuple[str, ...]:
    locked = []
    for needed in policy_set.needs(service):
        if needed.name in incident.together:
            continue
        latest = await tx.first("latest_of_service", service=needed.name, environment=needed.environment)
        if latest and latest["state"] != "closed":
            locked.append(f"{needed.name} ({latest['id']} is {latest['state']})")
        elif latest and latest["changed"] and latest["ended_at"] and now - latest["ended_at"] < _RECOVERING:
            locked.append(f"{needed.name} ({latest['id']} ended less than {_RECOVERING.seconds}s ago)")
    return tuple(locked)

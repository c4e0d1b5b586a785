"""The plan for one or more services in dependency order, ending with the verification."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from responder.backends.prometheus.trouble_check import TroubleCheck
from responder.errors import StepFailed
from responder.rollback.gateway import Gateway
from responder.rollback.plan import Gate, Plan, ServicePlan, StrategyPlan
from responder.rollback.version_change import VersionChange
from responder.services.service import Service


@dataclass(frozen=True, kw_only=True)
class Planning:
    """Planning parameters: the services, their order, and the verification."""

    services: Mapping[str, Service]  # by name, all of one environment
    hold_for: float  # seconds that every check must hold
    within: float  # seconds after the last change
    trouble: TroubleCheck | None = None  # what opened the rollback; must be resolved at the end
    needs: Callable[[Service], Sequence[Service]] = lambda service: ()  # direct and indirect dependencies
    order: Sequence[str] = ()  # names of services; empty: by dependency
    because: str = ""  # the reason for that order


async def plan(versions: Sequence[VersionChange], gateway: Gateway, planning: Planning) -> Plan:
    """The steps for all services, one service after the other, and the verification of all. Changes nothing.

    Raises StepFailed if a strategy has no plan; with several services the message names the service.
    """
    ordered, because = _ordered(versions, planning)
    several = len(ordered) > 1
    prefixes = {version.service: f"{version.service}: " if several else "" for version in ordered}
    made: dict[str, StrategyPlan] = {}
    for version in ordered:
        try:
            made[version.service] = await planning.services[version.service].plan(gateway, version)
        except StepFailed as failure:
            failure.args = (f"{prefixes[version.service]}{failure}",)  # keeps its type: drift is handled differently
            raise
    notes = [f"{prefixes[name]}{note}" for name, strategy_plan in made.items() for note in strategy_plan.notes]
    if several:
        notes.insert(0, f"in this order: {' → '.join(made)}" + (f", because {because}" if because else ""))
    return Plan(
        parts=tuple(ServicePlan(version=version, steps=len(made[version.service].steps)) for version in ordered),
        steps=(
            *(step for strategy_plan in made.values() for step in strategy_plan.steps),
            _verification(planning, made),
        ),
        notes=tuple(notes),
        mitigations=tuple(
            mitigation.model_copy(update={"service": name})
            for name, strategy_plan in made.items()
            for mitigation in strategy_plan.mitigations
        ),
    )


def _ordered(versions: Sequence[VersionChange], planning: Planning) -> tuple[Sequence[VersionChange], str]:
    """The services in the order of the plan, and the reason for it if it was configured."""
    if sorted(planning.order) != sorted(version.service for version in versions):
        return dependents_first(versions, planning), ""
    return sorted(versions, key=lambda version: planning.order.index(version.service)), planning.because


def dependents_first(versions: Sequence[VersionChange], planning: Planning) -> list[VersionChange]:
    """Dependents before what they depend on: the frontend, then the backend, then the database's schema.

    Services that do not depend on each other keep the order in which they are named, schemas last.
    """
    left, ordered = list(versions), []
    needed = {
        version.service: {service.name for service in planning.needs(planning.services[version.service])}
        for version in versions
    }
    while left:  # the configuration has no cycles: one service is always free
        free = [version for version in left if not any(version.service in needed[other.service] for other in left)]
        chosen = min(free, key=lambda version: _strategy(version, planning) == "database_migration")
        left.remove(chosen)
        ordered.append(chosen)
    return ordered


def _strategy(version: VersionChange, planning: Planning) -> str:
    return version.strategy or planning.services[version.service].rollback.strategy


def _verification(planning: Planning, names: Collection[str]) -> Gate:
    services = [planning.services[name] for name in names]
    checks = (check for service in services for check in (*service.health_checks, *service.traffic_checks))
    return Gate(
        name=f"{' and '.join(names)} {'are' if len(names) > 1 else 'is'} healthy",
        checks=(*checks, *([planning.trouble] if planning.trouble else ())),
        hold_for=planning.hold_for,
        within=planning.within,
        otherwise="freeze",
    )

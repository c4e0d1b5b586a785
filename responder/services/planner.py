"""The plan for one service or several, in dependency order, with the verification that no strategy can leave out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from responder.backends.prometheus.trouble_check import TroubleCheck
from responder.errors import StepFailed
from responder.rollback.gateway import Gateway
from responder.rollback.plan import Gate, Mitigation, Plan, Share, Step
from responder.rollback.strategies import Target
from responder.services.service import Service


@dataclass(frozen=True)
class Part:
    """One service on its way, by one of its strategies; the usual one where none is named."""

    service: Service
    target: Target
    strategy: str | None = None

    @property
    def way(self) -> str:
        way = self.service.way(self.strategy)
        return way.strategy if way else str(self.strategy)


async def plan(
    parts: Sequence[Part],
    gateway: Gateway,
    *,
    verify_for: float,
    verify_within: float,
    needs: Callable[[Service], Sequence[Service]] = lambda service: (),
    order: tuple[Sequence[str], str] = ((), ""),
    trouble: TroubleCheck | None = None,
) -> Plan:
    """What is done for all of them, one after the other, and at the end all of them verified. Raises Halt.

    `trouble`: what opened the rollback, and must be gone at its end.
    `needs`: what a service depends on, near and far. `order`: another one than that of `dependents_first`, and why.
    """
    wanted, because = order
    first, several = parts[0], len(parts) > 1
    steps: list[Step] = []
    shares: list[Share] = []
    notes: list[str] = []
    mitigations: list[Mitigation] = []
    if sorted(wanted) == sorted(part.service.name for part in parts):
        ordered = sorted(parts, key=lambda part: wanted.index(part.service.name))
    else:
        ordered, because = dependents_first(parts, needs), ""
    for part in ordered:
        name = part.service.name
        try:
            draft = await part.service.draft(gateway, part.target, part.strategy)
        except StepFailed as failure:
            if several:
                failure.args = (f"{name}: {failure}",)  # it stays what it is: drift is no other reason to halt
            raise
        versions = {"from_version": part.target.from_version, "to_version": part.target.to_version}
        shares.append(Share(service=name, strategy=part.way, steps=len(draft.steps), **versions))
        steps += draft.steps
        mitigations += [mitigation.model_copy(update={"service": name}) for mitigation in draft.mitigations]
        notes += [f"{name}: {note}" if several else note for note in draft.notes]
    if several:
        sequence = " → ".join(share.service for share in shares)
        notes.insert(0, f"in this order: {sequence}" + (f", because {because}" if because else ""))
    names = " and ".join(share.service for share in shares)
    checks = (check for part in parts for check in (*part.service.health_checks, *part.service.traffic_checks))
    verify = Gate(
        name=f"{names} {'are' if several else 'is'} healthy",
        checks=(*checks, *([trouble] if trouble else ())),
        hold_for=verify_for,
        within=verify_within,
        otherwise="freeze",
    )
    return Plan(
        service=first.service.name,
        environment=first.service.environment,
        strategy=first.way,
        from_version=first.target.from_version,
        to_version=first.target.to_version,
        steps=(*steps, verify),
        notes=tuple(notes),
        mitigations=tuple(mitigations),
        shares=tuple(shares) if several else (),
    )


def dependents_first(parts: Sequence[Part], needs: Callable[[Service], Sequence[Service]]) -> list[Part]:
    """What needs others goes back before what it needs: the frontend, then the backend, then the database's schema.

    Of those that do not need each other, in the order in which they are named, schemas last.
    """
    left, ordered = list(parts), []
    needed = {part.service.name: {service.name for service in needs(part.service)} for part in parts}
    while left:  # the configuration has no rings: something is always free
        free = [part for part in left if not any(part.service.name in needed[other.service.name] for other in left)]
        chosen = min(free, key=lambda part: part.way == "database_migration")
        left.remove(chosen)
        ordered.append(chosen)
    return ordered

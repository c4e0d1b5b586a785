"""Puts the good version back at once, everywhere: for what must not run a minute longer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from responder.levers import CurrentRelease
from responder.levers.docker import ServiceImage
from responder.levers.kubernetes import PodTemplate, Replicas, RolloutSettings
from responder.levers.lever import Lever
from responder.plan import Draft, Move
from responder.problems import Problem
from responder.strategies.docker import containers, override_problems
from responder.strategies.kubernetes import Workpiece, around, with_settings, workpiece
from responder.strategies.strategy import Place, Strategy, Target, read_expecting, value_of
from responder.world import World


class Immediate(Strategy, Place):
    """All of it in one move, without regard to how much is unavailable meanwhile."""

    strategy: Literal["immediate"] = "immediate"
    release: CurrentRelease | None = Field(default=None, description="Directory of releases with a `current` link")
    kubernetes: PodTemplate | None = Field(default=None, description="Deployment, StatefulSet or DaemonSet")
    docker: ServiceImage | None = Field(default=None, description="Service of a Compose project")
    stop: tuple[Replicas, ...] = Field(
        default=(), description="Workloads that must not run on, scaled to 0 before anything else"
    )

    def derived(self) -> Iterator[Lever]:
        if self.kubernetes is not None:
            yield from around(self.kubernetes)

    async def problems(self, world: World) -> list[Problem]:
        return await override_problems(world, self.docker) if self.docker else []

    async def draft(self, world: World, target: Target) -> Draft:
        stops = [await _stopped(world, lever, target) for lever in self.stop]
        if self.kubernetes is not None:
            piece = await workpiece(world, self.kubernetes, target)
            return Draft(steps=(*stops, *await _all_at_once(world, piece)), notes=piece.notes)
        if self.docker is not None:
            work = await containers(world, self.docker, target)
            (moves,) = work.moves(len(work.levers))
            return Draft(steps=(*stops, *moves, *work.last), notes=work.notes)
        lever = self.lever
        was = await read_expecting(world, lever, target)
        to, notes = await value_of(world, lever, target)
        return Draft(steps=(*stops, Move(lever=lever, was=was, to=to)), notes=(*self.unfollowed, *notes))


async def _stopped(world: World, lever: Replicas, target: Target) -> Move:
    await world.ask(lever, lambda kube: lever.prepare(kube, 0))
    return Move(lever=lever.model_copy(update={"mark": target.execution}), was=await world.read(lever), to=0)


async def _all_at_once(world: World, piece: Workpiece) -> tuple[Move, ...]:
    """Everything may be unavailable at once; `Recreate` says so already, and two versions may then never overlap."""
    template = piece.template
    settings = await world.read(RolloutSettings(**template.where))
    if template.statefulset or (template.deployment and _is_recreate(settings)):
        return (*piece.first, piece.move(), *piece.last)
    key = "strategy" if template.deployment else "updateStrategy"
    rolling = {"maxUnavailable": "100%", "maxSurge": 0}
    wanted = {key: {"type": "RollingUpdate", "rollingUpdate": rolling}, "minReadySeconds": 0}
    return await with_settings(world, piece, wanted)


def _is_recreate(settings: object) -> bool:
    return isinstance(settings, dict) and settings["strategy"].get("type") == "Recreate"

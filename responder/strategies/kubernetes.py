"""What every strategy does around a pod template: who else writes to it, and how it rolls out meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from pydantic import BaseModel, ConfigDict

from responder.errors import Halt
from responder.levers.kubernetes import PodTemplate, RolloutPaused, RolloutSettings
from responder.levers.kubernetes.gitops import owners_of
from responder.levers.lever import Lever
from responder.plan import Move
from responder.strategies.strategy import Target, read_expecting, value_of
from responder.world import World


class Workpiece(BaseModel):
    """One pod template on its way to the good version."""

    model_config = ConfigDict(frozen=True)

    template: PodTemplate
    was: Any
    to: Any
    first: tuple[Move, ...] = ()  # before it is touched
    last: tuple[Move, ...] = ()  # afterwards
    notes: tuple[str, ...] = ()

    def move(self, **more: Any) -> Move:
        return Move(lever=self.template, was=self.was, to=self.to, **more)


async def workpiece(world: World, template: PodTemplate, target: Target, *, running: bool = True) -> Workpiece:
    """The template as it is and as it shall be. `running`: it must be what the deployments say. Raises Halt."""
    template = template.model_copy(update={"mark": target.execution})
    was = await read_expecting(world, template, target) if running else await world.read(template)
    if was is None:
        raise Halt(f"there is no {template.what}; nothing was touched")
    to, notes = await value_of(world, template, target)
    suspended, suspend_notes = await _suspended(world, template)
    paused = RolloutPaused(**template.where, within=template.within, brings=to)
    notes = (*notes, *suspend_notes)
    if template.daemonset or not await world.read(paused):
        return Workpiece(template=template, was=was, to=to, first=suspended, notes=notes)
    again, resumed = Move(lever=paused, was=True, to=None), Move(lever=paused, was=None, to=False)
    return Workpiece(template=template, was=was, to=to, first=(*suspended, again), last=(resumed,), notes=notes)


async def _suspended(world: World, template: PodTemplate) -> tuple[tuple[Move, ...], tuple[str, ...]]:
    moves, notes = [], []
    for owner in await world.ask(template, lambda kube: owners_of(kube, template)):
        if owner.unseen:
            notes.append(f"whether {owner.who} would bring the bad version back could not be seen: no right to")
            continue
        if owner.fights or template.gitops == "refuse":
            raise Halt(
                f"{template.what} belongs to {owner.who}, which would bring the bad version back: {owner.mend}"
                + ("" if owner.fights else " (gitops: suspend lets us stop it there and go on)")
            )
        now = await world.read(owner.suspend) if owner.suspend is not None else "off"
        if now is None:
            raise Halt(f"{template.what} belongs to {owner.who}, which cannot be suspended: it was not found there")
        if owner.suspend is not None and now == "on":
            await world.ask(owner.suspend, partial(owner.suspend.prepare, value="off"))
            moves.append(Move(lever=owner.suspend, was=now, to="off"))
            notes.append(f"{owner.who} stays suspended afterwards: {owner.mend}, then resume it")
        else:
            notes.append(f"{owner.who}: {owner.mend}")
    return tuple(moves), tuple(notes)


def around(template: PodTemplate) -> Iterator[Lever]:
    """The levers that a plan may use around the template."""
    yield RolloutSettings(**template.where)
    if not template.daemonset:
        yield RolloutPaused(**template.where)


async def with_settings(world: World, piece: Workpiece, wanted: dict[str, Any], **how: Any) -> tuple[Move, ...]:
    """The moves, under other rollout settings, and the settings as they were before at the end. Raises Halt.

    One patch sets the template and the settings, and on the way back both as they were: while the bad template is
    there, the pods of the good version are the old ones, and the controller removes as many as the settings let it.
    """
    lever = RolloutSettings(**piece.template.where, mark=piece.template.mark, fields=tuple(wanted))
    found = await world.read(lever)
    if found == wanted:
        return (*piece.first, piece.move(**how), *piece.last)
    await world.ask(lever, lambda kube: lever.prepare(kube, wanted))
    both = Workpiece(
        template=piece.template.model_copy(update={"with_settings": tuple(wanted)}),
        was={**piece.was, "settings": found},
        to={**piece.to, "settings": wanted},
    )
    restored = Move(lever=lever, was=wanted, to=found, one_way=True)
    return (*piece.first, both.move(**how), *piece.last, restored)

"""What every platform of a frontend is: it says how it is put back, and how that shows where users are."""

from __future__ import annotations

from abc import ABC, abstractmethod

from pydantic import BaseModel, ConfigDict

from responder.levers.web import Purge
from responder.plan import Draft, Move, Step
from responder.strategies.strategy import Target
from responder.world import World


class Platform(BaseModel, ABC):
    """One of the ways by which a frontend comes to its users."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    @property
    def own_cache(self) -> Purge | None:
        """The cache that has to be emptied where nobody names another; None where there is none."""
        return None

    @abstractmethod
    async def draft(self, world: World, target: Target, cache: Purge | None) -> Draft:
        """Its steps, ending with the gate that shows the good version to be with the users. Raises Halt."""


async def emptied(world: World, target: Target, cache: Purge | None, *moves: Move) -> Draft:
    """The moves, and the cache emptied after them: going forward, and after the last of them on the way back too.

    The first step does that. Forward it has nothing to do, so turned round it is the last one that is done.
    """
    if cache is None:
        return Draft(steps=moves)
    back = cache.model_copy(update={"mark": target.execution, "on_way_back": True})
    on = cache.model_copy(update={"mark": target.execution, "on_way_back": False})
    notes = await world.ask(on, lambda client: on.prepare(client, on.reference))
    steps: tuple[Step, ...] = (
        Move(lever=back, was=back.reference, to=None),
        *moves,
        Move(lever=on, was=None, to=on.reference, one_way=True, every=_EVERY),
    )
    return Draft(steps=steps, notes=notes)


_EVERY = 3.0
"""Seconds between two looks at an invalidation: they take some minutes, and looking is limited."""

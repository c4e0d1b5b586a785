"""Puts the good version back at once, everywhere: for what must not run a minute longer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from responder.levers import CurrentRelease
from responder.plan import Move, Step
from responder.strategies.strategy import Strategy, Target, read_expecting
from responder.world import World


class Immediate(Strategy):
    """One move: the release, and the restart that goes with it."""

    strategy: Literal["immediate"] = "immediate"
    release: CurrentRelease = Field(description="Directory of releases with a `current` link")

    async def steps(self, world: World, target: Target) -> tuple[Step, ...]:
        was = await read_expecting(world, self.release, target)
        return (Move(lever=self.release, was=was, to=target.to_version),)

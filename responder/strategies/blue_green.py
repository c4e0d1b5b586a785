"""Sends traffic back to the colour that served before, and leaves the failed one as it is for study."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from responder.checks import Check
from responder.durations import Duration
from responder.errors import Halt
from responder.levers import CurrentRelease, PointerFile
from responder.plan import Gate, Move, Step
from responder.strategies.strategy import Strategy, Target, read_expecting
from responder.world import World


class Colour(BaseModel):
    """One of the two places where the service runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    release: CurrentRelease = Field(description="The releases of this colour")
    ready: Annotated[tuple[Check, ...], Field(min_length=1, description="What must hold of this colour by itself")]


class Colours(BaseModel):
    """Both of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    blue: Colour
    green: Colour


class BlueGreen(Strategy):
    """The idle colour is brought to the good version and proven ready before any traffic goes there."""

    strategy: Literal["blue_green"] = "blue_green"
    pointer: PointerFile = Field(description="File that names the colour which has the traffic")
    colours: Colours = Field(description="Both colours, by their names")
    ready_for: Duration = Field(default=2.0, description="How long the idle colour must be ready before the switch")
    ready_within: Duration = Field(default=60.0, gt=0, description="Deadline for that")

    async def steps(self, world: World, target: Target) -> tuple[Step, ...]:
        match live := await world.read(self.pointer):
            case "blue":
                idle, serving, colour = "green", self.colours.blue, self.colours.green
            case "green":
                idle, serving, colour = "blue", self.colours.green, self.colours.blue
            case _:
                raise Halt(f"the {self.pointer} names {live!r}, neither blue nor green; nothing was touched")
        await read_expecting(world, serving.release, target)
        return (
            Move(lever=colour.release, was=await world.read(colour.release), to=target.to_version),
            Gate(
                name=f"{idle} is ready before it gets traffic",
                checks=colour.ready,
                hold_for=self.ready_for,
                within=self.ready_within,
            ),
            Move(lever=self.pointer, was=live, to=idle),
        )

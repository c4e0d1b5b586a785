"""What every strategy is: a frozen model whose fields a user writes in YAML, with one verb."""

from __future__ import annotations

from abc import ABC, abstractmethod

from pydantic import BaseModel, ConfigDict

from responder.errors import Halt
from responder.levers.lever import Lever
from responder.plan import Step
from responder.world import World


class Target(BaseModel):
    """What is to be rolled back, from which version to which: concrete, and chosen once."""

    model_config = ConfigDict(frozen=True)

    service: str
    environment: str
    from_version: str
    to_version: str
    artifact: str = ""  # of the version to go back to, as an image digest; empty where the version itself names it


class Strategy(BaseModel, ABC):
    """How one service is rolled back. It only reads: what is to be done is the plan that it returns."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @abstractmethod
    async def steps(self, world: World, target: Target) -> tuple[Step, ...]:
        """The steps, without the final verification, which is the same for all. Raises Halt where there is no way."""


async def read_expecting(world: World, lever: Lever, target: Target) -> str:
    """The lever's value, where it is the version that the last deployment told of.

    Raises Halt otherwise: what runs is then not what was judged, and whoever put it there knows more than we do.
    """
    found = await world.read(lever)
    if found != target.from_version:
        raise Halt(
            f"the {lever} is {found!r}, but the deployments say that {target.from_version!r} runs; "
            f"nothing was touched (tell of it with: responder deployed {target.service} VERSION)"
        )
    return target.from_version

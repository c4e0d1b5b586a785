"""What every strategy is: a frozen model whose fields a user writes in YAML, with one verb."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Self

from pydantic import BaseModel, ConfigDict, JsonValue, model_validator

from responder.backends.problems import Problem
from responder.backends.resource import Resource
from responder.errors import UnexpectedVersion
from responder.rollback.gateway import Gateway
from responder.rollback.plan import StrategyPlan
from responder.rollback.version_change import VersionChange


class Strategy(BaseModel, ABC):
    """How one service is rolled back. It only reads: what is to be done is the plan that it returns."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @abstractmethod
    async def plan(self, gateway: Gateway, version: VersionChange) -> StrategyPlan:
        """The steps, without the final verification, which is the same for all. Raises Halt where there is no way."""

    def derived(self) -> Iterator[Resource]:
        """The resources that its plans use besides those that its configuration names."""
        yield from ()

    async def problems(self, gateway: Gateway) -> list[Problem]:
        """What its plans ask besides what each resource is asked by itself, and what is wrong there. Raises Halt."""
        return []


class Place(BaseModel):
    """Where the service runs: exactly one of the fields that are optional resources is set."""

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if len(self._places) != 1:
            raise ValueError(f"needs exactly one of {', '.join(_place_fields(type(self)))}")
        return self

    @property
    def _places(self) -> list[Resource]:
        return [resource for name in _place_fields(type(self)) if (resource := getattr(self, name)) is not None]

    @property
    def resource(self) -> Resource:
        return self._places[0]

    @property
    def unfollowed(self) -> tuple[str, ...]:
        """What people must know if a pointer moves and no command makes the service follow."""
        followed = getattr(self.resource, "restart", True)
        return () if followed else (self.resource.nothing_follows,)  # type: ignore[attr-defined]


_PLACES = ("release", "kubernetes", "docker")


def _place_fields(model: type[BaseModel]) -> list[str]:
    return [name for name in _PLACES if name in model.model_fields]


async def read_expecting(gateway: Gateway, resource: Resource, version: VersionChange) -> JsonValue:
    """The resource's value, where it is the version that the last deployment told of.

    Raises Halt otherwise: what runs is then not what was judged, and whoever put it there knows more than we do.
    """
    found = await gateway.read(resource)
    if not await gateway.ask(resource, lambda c: resource.runs(c, found, version.from_version, version.from_artifact)):
        raise UnexpectedVersion(
            f"the {resource} is {resource.describe(found)}, but the deployments say that {version.from_version} runs; "
            f"nothing was touched (tell of it with: responder deployed {version.service} VERSION)"
        )
    return found


async def value_of(gateway: Gateway, resource: Resource, version: VersionChange) -> tuple[JsonValue, tuple[str, ...]]:
    """The value that stands for the version to go back to, and what people should know. Raises Halt where there is
    none, or where something would keep it from being set.
    """
    value = await gateway.ask(resource, lambda c: resource.value_of(c, version.to_version, version.artifact))
    return value, await gateway.ask(resource, lambda c: resource.preflight(c, value))

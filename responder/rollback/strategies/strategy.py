"""The base of all strategies: a frozen model of YAML fields, with the method `plan`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Self

from pydantic import JsonValue, model_validator

from foundation.models import StrictModel, exactly_one
from responder.backends.host.release import CurrentRelease, PointerFile
from responder.backends.problems import Problem
from responder.backends.resource import Resource
from responder.errors import UnexpectedVersion
from responder.rollback.gateway import Gateway
from responder.rollback.plan import StrategyPlan
from responder.rollback.version_change import VersionChange


class Strategy(StrictModel, ABC):
    """How one service is rolled back. A strategy only reads, and returns the plan."""

    strategy: str  # its name; each strategy narrows it to a literal

    @abstractmethod
    async def plan(self, gateway: Gateway, version: VersionChange) -> StrategyPlan:
        """The steps, without the final verification, which is the same for all. Raises StepFailed if there are none."""

    def derived(self) -> Iterator[Resource[Any]]:
        """The resources that its plans use besides those that its configuration names."""
        yield from ()

    async def problems(self, gateway: Gateway) -> list[Problem]:
        """Checks what its plans need besides access to each resource. Raises StepFailed."""
        return []


class OneResource(StrictModel):
    """Where the service runs: exactly one of the fields that name a resource is set."""

    @model_validator(mode="after")
    def _has_exactly_one(self) -> Self:
        exactly_one(self, *self._choices())
        return self

    @classmethod
    def _choices(cls) -> list[str]:
        return [name for name in ("release", "kubernetes", "docker", "resource") if name in cls.model_fields]

    @property
    def chosen(self) -> Resource[Any]:
        """The resource that is set."""
        found: Resource[Any] = getattr(self, exactly_one(self, *self._choices()))
        return found

    @property
    def unfollowed(self) -> tuple[str, ...]:
        """The warning if a pointer changes but no command reloads the service."""
        pointer = self.chosen
        if isinstance(pointer, CurrentRelease | PointerFile) and not pointer.restart:
            return (pointer.nothing_follows,)
        return ()


async def read_expecting(gateway: Gateway, resource: Resource[Any], version: VersionChange) -> JsonValue:
    """The resource's value, which must be the version that was deployed last.

    Raises UnexpectedVersion otherwise: the decision was about another version than the one that runs.
    """
    found = await gateway.read(resource)
    if not await gateway.runs(resource, found, version.from_version, version.from_artifact):
        raise UnexpectedVersion(
            f"the {resource} is {resource.describe(found)}, but {version.from_version} was reported as running; "
            f"nothing was changed (report it: responder deployed {version.service} VERSION)"
        )
    return found


async def value_of(
    gateway: Gateway, resource: Resource[Any], version: VersionChange
) -> tuple[JsonValue, tuple[str, ...]]:
    """The resource's value for the target version, and notes for people.

    Raises StepFailed if there is no such value, or if it cannot be set.
    """
    value = await gateway.value_of(resource, version.to_version, version.artifact)
    return value, await gateway.preflight(resource, value)

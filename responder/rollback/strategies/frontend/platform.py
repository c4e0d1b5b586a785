"""What every platform of a frontend is: it says how it is put back, and how that shows where users are."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod

from pydantic import BaseModel, ConfigDict, Field

from responder.backends.sites.purge import Purge
from responder.rollback.gateway import Gateway
from responder.rollback.plan import Change, Mitigation, Step, StrategyPlan
from responder.rollback.version_change import VersionChange


class Platform(BaseModel, ABC):
    """One of the ways by which a frontend comes to its users."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    @property
    def own_cache(self) -> Purge | None:
        """The cache that has to be emptied where nobody names another; None where there is none."""
        return None

    @abstractmethod
    async def plan(self, gateway: Gateway, target: VersionChange, cache: Purge | None) -> StrategyPlan:
        """Its steps, ending with the gate that shows the good version to be with the users. Raises Halt."""


class StorePlatform(Platform):
    """An app that a store brings to its users. What they have is not taken back: the apps themselves are told."""

    min_version: str = Field(
        default="",
        description="Told to the apps with a rollback: below it they ask for an update. {version} stands for the one "
        "that is gone back to; empty: it stays as it is",
    )
    kill_switches: dict[str, bool] = Field(
        default_factory=dict, description="Flags told to the apps with a rollback, as {checkout_v3: false}"
    )

    def untouched(self, target: VersionChange, name: str, why: str = "") -> StrategyPlan:
        """Where the store is left alone, and only the apps are told. A store that is away holds nothing else up."""
        mitigation = self.mitigation(target, name, f"the store was left alone: {self.hint}")
        return StrategyPlan(steps=(), notes=(why,) if why else (), mitigations=(mitigation,))

    @property
    @abstractmethod
    def has_store(self) -> bool:
        """Whether there is a store that says itself what it has; else what was told is all that is known."""

    @property
    @abstractmethod
    def hint(self) -> str:
        """What a person does in the store who does by hand what we leave."""

    def blocked(self, target: VersionChange) -> tuple[str, ...]:
        """What apps of the bad version may know themselves as."""
        return (target.from_version,)

    @abstractmethod
    def republish(self, target: VersionChange) -> str:
        """What has to be published, in words."""

    def mitigation(self, target: VersionChange, name: str, *more: str) -> Mitigation:
        return Mitigation(
            platform=name,
            blocked_versions=self.blocked(target),
            min_version=self.min_version.replace("{version}", target.to_version),
            flags=self.kill_switches,
            remains="; ".join((self.republish(target), *more)),
        )


def told_in(artifact: str, key: str, form: str) -> str:
    """What an artefact such as `versionCode=41` tells of the key, or `41` alone; empty for others, as a digest."""
    found = re.search(rf"(?:^|[\s,;&]){key}=({form})(?=$|[\s,;&])", artifact) or re.fullmatch(f"({form})", artifact)
    return found[1] if found else ""


PLANNED_WITHIN = 30.0
"""Seconds that a plan waits for a store: what else is rolled back waits with it."""


async def emptied(gateway: Gateway, target: VersionChange, cache: Purge | None, *changes: Change) -> StrategyPlan:
    """The moves, and the cache emptied after them: going forward, and after the last of them on the way back too.

    The first step does that. Forward it has nothing to do, so turned round it is the last one that is done.
    """
    if cache is None:
        return StrategyPlan(steps=changes)
    # One purge for each platform: two that share a cache change at different moments.
    mark = f"{target.execution} {changes[0].resource}"
    back = cache.model_copy(update={"mark": mark, "on_way_back": True})
    on = cache.model_copy(update={"mark": mark, "on_way_back": False})
    notes = await gateway.preflight(on, on.reference)
    steps: tuple[Step, ...] = (
        Change(resource=back, before=back.reference, after=None),
        *changes,
        Change(resource=on, before=None, after=on.reference, one_way=True, every=_EVERY),
    )
    return StrategyPlan(steps=steps, notes=notes)


_EVERY = 3.0
"""Seconds between two looks at an invalidation: they take some minutes, and looking is limited."""

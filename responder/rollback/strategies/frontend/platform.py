"""The base of every platform of a frontend: its plan, and the gate that checks what users get."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod

from pydantic import ConfigDict, Field

from foundation.models import StrictModel
from responder.backends.sites.purge import Purge
from responder.rollback.gateway import Gateway
from responder.rollback.plan import Change, Mitigation, Step, StrategyPlan
from responder.rollback.version_change import VersionChange


class Platform(StrictModel, ABC):
    """One way in which a frontend reaches its users."""

    model_config = ConfigDict(populate_by_name=True)

    @property
    def own_cache(self) -> Purge | None:
        """The cache that is purged unless the configuration names another; None if there is none."""
        return None

    @abstractmethod
    async def plan(self, gateway: Gateway, target: VersionChange, cache: Purge | None) -> StrategyPlan:
        """Returns its steps. The last one is a gate that checks that users get the good version. Raises StepFailed."""


class StorePlatform(Platform):
    """An app from a store. Installed versions stay; the documents that apps poll tell them what to do."""

    min_version: str = Field(
        default="",
        description="Minimum version published to the apps by a rollback; older ones ask for an update. {version} is "
        "the good version; empty: unchanged",
    )
    kill_switches: dict[str, bool] = Field(
        default_factory=dict, description="Flags published to the apps by a rollback, such as {checkout_v3: false}"
    )

    def untouched(self, target: VersionChange, name: str, why: str = "") -> StrategyPlan:
        """Returns a plan that changes only the documents for apps. An unavailable store does not stop the others."""
        mitigation = self.mitigation(target, name, f"the store was not changed: {self.hint}")
        return StrategyPlan(steps=(), notes=(why,) if why else (), mitigations=(mitigation,))

    @property
    @abstractmethod
    def has_store(self) -> bool:
        """Whether a store reports its versions. Otherwise only reported deployments are known."""

    @property
    @abstractmethod
    def hint(self) -> str:
        """What a person must do in the store if the responder cannot change it."""

    def blocked(self, target: VersionChange) -> tuple[str, ...]:
        """Returns the version strings that apps of the bad version may report."""
        return (target.from_version,)

    @abstractmethod
    def republish(self, target: VersionChange) -> str:
        """Returns what a person must publish."""

    def mitigation(self, target: VersionChange, name: str, *more: str) -> Mitigation:
        """Returns what is published to the apps, and what remains to be done by people."""
        return Mitigation(
            platform=name,
            blocked_versions=self.blocked(target),
            min_version=self.min_version.replace("{version}", target.to_version),
            flags=self.kill_switches,
            remains="; ".join((self.republish(target), *more)),
        )


def value_in(artifact: str, key: str, form: str) -> str:
    """Returns the value of a key in an artifact such as `versionCode=41` or `41`. Empty for others, such as digests."""
    found = re.search(rf"(?:^|[\s,;&]){key}=({form})(?=$|[\s,;&])", artifact) or re.fullmatch(f"({form})", artifact)
    return found[1] if found else ""


PLANNED_WITHIN = 30.0
"""Seconds that a plan waits for a store. The other services of the rollback wait as well."""


async def emptied(gateway: Gateway, target: VersionChange, cache: Purge | None, *changes: Change) -> StrategyPlan:
    """Returns the changes with a purge after them, in both directions.

    The first step is the purge for a revert: it does nothing forward, and comes last when the plan is reverted.
    """
    if cache is None:
        return StrategyPlan(steps=changes)
    # One purge for each platform: two platforms that share a cache change at different times.
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
"""Seconds between two checks of an invalidation, which takes minutes. The requests are rate-limited."""

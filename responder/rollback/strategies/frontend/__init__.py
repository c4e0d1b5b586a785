"""The strategy `frontend`: rolls back sites and apps, and checks what users get."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, HttpUrl, Tag, model_validator

from foundation.durations import Duration
from responder.backends.http.http_check import HttpCheck
from responder.backends.problems import Problem
from responder.backends.resource import Resource
from responder.backends.sites.cloudflare import CloudflarePurge
from responder.backends.sites.cloudfront import CloudfrontInvalidation
from responder.backends.sites.fastly import FastlyPurge
from responder.backends.sites.purge import Purge
from responder.config.unions import union_by_key
from responder.errors import StepFailed, UnexpectedVersion
from responder.rollback.gateway import Gateway
from responder.rollback.plan import Gate, StrategyPlan
from responder.rollback.strategies.frontend.android import Android
from responder.rollback.strategies.frontend.desktop import Desktop
from responder.rollback.strategies.frontend.ios import Ios
from responder.rollback.strategies.frontend.platform import Platform, StorePlatform
from responder.rollback.strategies.frontend.web import WebPlatform
from responder.rollback.strategies.strategy import Strategy
from responder.rollback.version_change import VersionChange

Caches = Annotated[
    Annotated[bool, Tag("<bool>")]
    | Annotated[CloudfrontInvalidation, Tag("<cloudfront>")]
    | Annotated[CloudflarePurge, Tag("<cloudflare>")]
    | Annotated[FastlyPurge, Tag("<fastly>")],
    union_by_key("CDN", "cloudfront", "cloudflare", "fastly", plain=bool),
]


class Frontend(Strategy):
    """Rolls back one platform after the other. If one fails, all are reverted."""

    strategy: Literal["frontend"] = "frontend"
    platforms: tuple[str, ...] = Field(default=(), description="Names of the platforms; optional")
    web: WebPlatform | None = Field(default=None, description="A site, with or without a CDN")
    android: Android | None = Field(default=None, description="An app on Google Play")
    ios: Ios | None = Field(default=None, description="An app in the App Store")
    desktop: Desktop | None = Field(default=None, description="An app that updates itself")
    app_store_rollback: bool = Field(
        default=True,
        description="Whether store releases are halted and phased ones paused; false: only the documents for apps "
        "change",
    )
    cdn_invalidation: Caches | None = Field(
        default=None,
        description="CDN cache to purge; true, the default for an origin path: its distribution; false: none",
    )
    health_check_urls: tuple[HttpUrl, ...] = Field(
        default=(), description="URLs that must answer 200 once every platform is rolled back"
    )
    healthy_within: Duration = Field(default=60.0, gt=0, description="Deadline for health_check_urls")

    @property
    def _configured(self) -> dict[str, Platform]:
        """The platforms by key, in the order in which they are rolled back."""
        found = ((name, getattr(self, name)) for name in type(self).model_fields)
        return {name: value for name, value in found if isinstance(value, Platform)}

    @model_validator(mode="after")
    def _fits_together(self) -> Frontend:
        configured = self._configured
        if not configured:
            raise ValueError("no platform: add at least one key such as web")
        if self.platforms and set(self.platforms) != set(configured):
            mismatch = f"{', '.join(self.platforms)} are listed, but configured: {', '.join(configured)}"
            raise ValueError(f"platforms: {mismatch}: add a key for each platform in the list")
        if self.cdn_invalidation is True and not any(platform.own_cache for platform in configured.values()):
            raise ValueError("cdn_invalidation: no platform names a CDN: write it as {cloudfront: E1ABC}")
        return self

    def caches(self, platform: Platform) -> Purge | None:
        """Returns the purge for a change of that platform, or None."""
        if self.cdn_invalidation is None or self.cdn_invalidation is True:
            return platform.own_cache
        return None if self.cdn_invalidation is False else self.cdn_invalidation

    def derived(self) -> Iterator[Resource]:
        if self.cdn_invalidation in (None, True):
            yield from (cache for platform in self._configured.values() if (cache := platform.own_cache))

    async def problems(self, gateway: Gateway) -> list[Problem]:
        return await self.web.problems(gateway) if self.web else []

    async def plan(self, gateway: Gateway, target: VersionChange) -> StrategyPlan:
        planning = [self._part(gateway, target, name, platform) for name, platform in self._configured.items()]
        found: list[tuple[StrategyPlan, bool]] = []
        for result in await asyncio.gather(*planning, return_exceptions=True):  # raises the first of several errors
            if isinstance(result, BaseException):
                raise result
            found.append(result)
        notes = [note for part, _ in found for note in part.notes]
        if not (parts := [part for part, is_affected in found if is_affected]):
            raise StepFailed(f"none of its platforms is at {target.from_version}: {'; '.join(notes)}")
        parts += [part for part, is_affected in found if not is_affected]
        steps = [step for part in parts for step in part.steps]
        if self.health_check_urls:
            checks = tuple(HttpCheck(http=url) for url in self.health_check_urls)
            steps.append(Gate(name="frontend answers", checks=checks, within=self.healthy_within))
        return StrategyPlan(
            steps=tuple(steps),
            notes=tuple(note for part in parts for note in part.notes),
            mitigations=tuple(mitigation for part in parts for mitigation in part.mitigations),
        )

    async def _part(
        self, gateway: Gateway, target: VersionChange, name: str, platform: Platform
    ) -> tuple[StrategyPlan, bool]:
        """Returns the plan of a platform, and whether the version that is rolled back has reached it.

        A platform at another reported version does not stop the others: a store takes days.
        """
        runs = target.platform_versions.get(name, target.from_version)
        left = f"{name} is unchanged, at {runs}"
        if isinstance(platform, StorePlatform) and not (self.app_store_rollback and platform.has_store):
            elsewhere = runs != target.from_version
            return (
                (StrategyPlan(steps=(), notes=(left,)), False)
                if elsewhere
                else (platform.untouched(target, name), True)
            )
        try:
            return await platform.plan(gateway, target, self.caches(platform)), True
        except UnexpectedVersion as another:
            if runs == target.from_version:
                raise
            return StrategyPlan(steps=(), notes=(f"{left}: {another}",)), False

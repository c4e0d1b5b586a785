"""The phased release of a version in the App Store."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from foundation.durations import Duration
from responder.backends.app_stores.app_store_client import AppStore
from responder.backends.problems import Problem
from responder.backends.resource import Resource
from responder.errors import StepFailed, Unavailable


class PhasedRelease(Resource[AppStore, JsonValue]):
    """The state: ACTIVE and PAUSED can be set, INACTIVE has not begun, COMPLETE is final. None: no phased release."""

    resource: Literal["phased_release"] = "phased_release"
    app: str = Field(pattern="^[0-9]+$", description="Apple ID of the app, in quotes, such as '1234567890'")
    platform: Literal["IOS", "MAC_OS", "TV_OS", "VISION_OS"] = Field(default="IOS", description="Platform")
    within: Duration = Field(default=300.0, gt=0, description="Deadline until the store shows the change")
    version: str = Field(default="", description="Set by the responder: the version string in the store")

    @property
    def timeout(self) -> float:
        return self.within

    async def read(self, store: AppStore) -> JsonValue:
        found = await store.read(self.app, self.platform, self.version)
        return found.state or None if found else None

    async def write(self, store: AppStore, value: JsonValue, *, expected: JsonValue) -> None:
        found = await store.read(self.app, self.platform, self.version)
        state = found.state or None if found else None
        self.must_be(state, expected, value)
        if found is None or value not in ("ACTIVE", "PAUSED"):
            raise StepFailed(f"the {self} cannot be set to {value}, only to ACTIVE or PAUSED")
        if state != value:
            await store.write(found.id, value)
            if await self.read(store) != value:
                raise Unavailable(f"the {self} does not show the new state yet")

    async def check_access(self, store: AppStore) -> list[Problem]:
        found = await store.read(self.app, self.platform, "")
        if found is None:
            return [Problem(f"app {self.app}", f"has no version for {self.platform}", "correct app and platform")]
        if found.id:
            await store.require_role(found.id)
        return []

    def describe(self, value: JsonValue) -> str:
        return "none" if value is None else str(value)

    def __str__(self) -> str:
        return f"phased release of {self.app} {self.version}".strip() + f" in the App Store ({self.platform})"

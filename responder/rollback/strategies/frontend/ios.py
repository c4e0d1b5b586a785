"""The platform `ios`: pauses a phased release in the App Store. People and the documents for apps do the rest."""

from __future__ import annotations

from pydantic import Field

from responder.backends.app_stores.app_store_client import Phased
from responder.backends.app_stores.phased_release import PhasedRelease
from responder.backends.sites.purge import Purge
from responder.backends.sites.version_text import VersionText, text_for
from responder.errors import StepFailed, UnexpectedVersion
from responder.rollback.gateway import Gateway
from responder.rollback.plan import Change, StrategyPlan
from responder.rollback.strategies.frontend.platform import PLANNED_WITHIN, StorePlatform, value_in
from responder.rollback.version_change import VersionChange

_PAUSE_AT_MOST = 30
"""Days that a phased release may be paused in total. Then it continues by itself."""


class Ios(StorePlatform):
    """Apple cannot withdraw a version. A paused phased release stops automatic updates; manual ones still work."""

    app_store: PhasedRelease | None = Field(default=None, description="The app in the App Store")
    version: VersionText = Field(
        default="{version}", description="Version string in the store, if no artifact has it (version=2.0)"
    )

    @property
    def has_store(self) -> bool:
        """See StorePlatform.has_store."""
        return self.app_store is not None

    @property
    def hint(self) -> str:
        return "pause its phased release in App Store Connect"

    def blocked(self, target: VersionChange) -> tuple[str, ...]:
        """See StorePlatform.blocked; also the version string in the store."""
        return tuple(dict.fromkeys((target.from_version, self._string(target))))

    def republish(self, target: VersionChange) -> str:
        return (
            f"submit a version above {self._string(target)} to the App Store, built from {target.to_version}, and "
            f"request an expedited review: users of {target.from_version} keep it until then"
        )

    def _string(self, target: VersionChange) -> str:
        version = value_in(target.from_artifacts.get("ios", ""), "version", r"\d+(?:\.\d+)*")
        return version or text_for(self.version, target.from_version)

    async def plan(self, gateway: Gateway, target: VersionChange, cache: Purge | None) -> StrategyPlan:
        if self.app_store is None:
            return self.untouched(target, "ios")
        resource = self.app_store.model_copy(update={"version": self._string(target)})
        brief = resource.model_copy(update={"within": min(resource.within, PLANNED_WITHIN)})
        try:
            found = await gateway.ask(
                brief, lambda client: client.read(resource.app, resource.platform, resource.version)
            )
        except StepFailed as failure:
            why = f"App Store Connect could not be read, so it was not changed: {failure}"
            return self.untouched(target, "ios", why)
        if found is None:
            raise UnexpectedVersion(
                f"the app {resource.app} has no version {resource.version} in the App Store ({resource.platform}), "
                f"but the reported version is {target.from_version}; nothing was changed"
            )
        match found.state:
            case "ACTIVE":
                return await self._pause(gateway, target, resource, found)
            case "PAUSED":
                note = f"the {resource} is already paused"
            case "COMPLETE":
                note = f"the {resource} is complete: all users get {resource.version}, and it cannot be withdrawn"
            case "INACTIVE":
                note = f"the {resource} has not begun ({found.version_state}): do not release {resource.version}"
            case _:
                note = f"{resource.version} has no phased release ({found.version_state}): nothing to pause"
        return StrategyPlan(steps=(), notes=(note,), mitigations=(self.mitigation(target, "ios"),))

    async def _pause(
        self, gateway: Gateway, target: VersionChange, resource: PhasedRelease, found: Phased
    ) -> StrategyPlan:
        if (days := _PAUSE_AT_MOST - found.paused_days) <= 0:
            why = f"the {resource} was paused for {_PAUSE_AT_MOST} days, the most that Apple allows: it continues"
            return self.untouched(target, "ios", why)
        brief = resource.model_copy(update={"within": min(resource.within, PLANNED_WITHIN)})
        try:
            await gateway.ask(brief, lambda client: client.require_role(found.id))
        except StepFailed as failure:
            why = f"App Store Connect refuses to pause {resource.version}, so it was not changed: {failure}"
            return self.untouched(target, "ios", why)
        hint = f"within {days} days: then the pause ends and the phased release continues"
        note = f"users who search for {resource.version} in the App Store still get it, paused or not"
        kept = "if it is resumed, the phased release continues with the share of users that it has reached"
        return StrategyPlan(
            steps=(Change(resource=resource, before="ACTIVE", after="PAUSED", every=_EVERY),),
            notes=(note, kept),
            mitigations=(self.mitigation(target, "ios", hint),),
        )


_EVERY = 5.0
"""Seconds between two reads. Their number per hour is limited."""

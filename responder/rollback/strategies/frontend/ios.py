"""An app in the App Store: its phased release is paused; the rest is told to the apps, and done by people."""

from __future__ import annotations

from pydantic import Field

from responder.backends.app_stores.phased_release import PhasedRelease
from responder.backends.sites.purge import Purge
from responder.backends.sites.version_text import VersionText, text_for
from responder.errors import StepFailed, UnexpectedVersion
from responder.rollback.gateway import Gateway
from responder.rollback.plan import Change, StrategyPlan
from responder.rollback.strategies.frontend.platform import PLANNED_WITHIN, StorePlatform, told_in
from responder.rollback.version_change import VersionChange

_PAUSE_AT_MOST = 30
"""Days that a phased release may be paused in all; then it goes on by itself."""


class Ios(StorePlatform):
    """Apple takes no version back. A paused phased release brings it to nobody; who looks for it still gets it."""

    app_store: PhasedRelease | None = Field(default=None, description="Which app")
    version: VersionText = Field(
        default="{version}", description="A version's string in the store, where no artefact tells it (version=2.0)"
    )

    @property
    def has_store(self) -> bool:
        """As StorePlatform.has_store."""
        return self.app_store is not None

    @property
    def hint(self) -> str:
        return "pause its phased release in App Store Connect"

    def blocked(self, target: VersionChange) -> tuple[str, ...]:
        """As StorePlatform.blocked: also as the store has it."""
        return tuple(dict.fromkeys((target.from_version, self._string(target))))

    def republish(self, target: VersionChange) -> str:
        return (
            f"submit a version above {self._string(target)} to the App Store, built from {target.to_version}, and ask "
            f"for an expedited review: whoever has {target.from_version} keeps it until then"
        )

    def _string(self, target: VersionChange) -> str:
        version = told_in(target.from_artifacts.get("ios", ""), "version", r"\d+(?:\.\d+)*")
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
            why = f"App Store Connect could not be asked, so it was left as it is: {failure}"
            return self.untouched(target, "ios", why)
        if found is None:
            raise UnexpectedVersion(
                f"the app {resource.app} has no version {resource.version} in the App Store ({resource.platform}), "
                f"but the deployments say that {target.from_version} runs; nothing was touched"
            )
        match found.state:
            case "ACTIVE":
                left = max(_PAUSE_AT_MOST - found.paused_days, 0)
                hint = f"before {left} days of pause are over: the phased release then goes on by itself"
                note = f"whoever looks for {resource.version} in the App Store still gets it, paused or not"
                return StrategyPlan(
                    steps=(Change(resource=resource, before="ACTIVE", after="PAUSED", every=_EVERY),),
                    notes=(note,),
                    mitigations=(self.mitigation(target, "ios", hint),),
                )
            case "PAUSED":
                note = f"the {resource} is paused already"
            case "COMPLETE":
                note = f"the {resource} is complete: everybody gets {resource.version}, and Apple takes nothing back"
            case "INACTIVE":
                note = f"the {resource} has not begun ({found.version_state}): do not release {resource.version}"
            case _:
                note = f"{resource.version} has no phased release ({found.version_state}): there is nothing to pause"
        return StrategyPlan(steps=(), notes=(note,), mitigations=(self.mitigation(target, "ios"),))


_EVERY = 5.0
"""Seconds between two looks; their number in an hour is limited."""

"""An app in the App Store: its phased release is paused; the rest is told to the apps, and done by people."""

from __future__ import annotations

from pydantic import Field

from responder.errors import Halt, RunsAnother
from responder.levers.stores import PhasedRelease
from responder.levers.web import Purge
from responder.levers.web.version_text import VersionText, text_for
from responder.plan import Draft, Move
from responder.strategies.frontend.platform import PLANNED_WITHIN, StorePlatform, told_in
from responder.strategies.strategy import Target
from responder.world import World

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

    def blocked(self, target: Target) -> tuple[str, ...]:
        """As StorePlatform.blocked: also as the store has it."""
        return tuple(dict.fromkeys((target.from_version, self._string(target))))

    def republish(self, target: Target) -> str:
        return (
            f"submit a version above {self._string(target)} to the App Store, built from {target.to_version}, and ask "
            f"for an expedited review: whoever has {target.from_version} keeps it until then"
        )

    def _string(self, target: Target) -> str:
        version = told_in(target.from_artifacts.get("ios", ""), "version", r"\d+(?:\.\d+)*")
        return version or text_for(self.version, target.from_version)

    async def draft(self, world: World, target: Target, cache: Purge | None) -> Draft:
        if self.app_store is None:
            return self.untouched(target, "ios")
        lever = self.app_store.model_copy(update={"version": self._string(target)})
        brief = lever.model_copy(update={"within": min(lever.within, PLANNED_WITHIN)})
        try:
            found = await world.ask(brief, lambda client: client.read(lever.app, lever.platform, lever.version))
        except Halt as halt:
            why = f"App Store Connect could not be asked, so it was left as it is: {halt}"
            return self.untouched(target, "ios", why)
        if found is None:
            raise RunsAnother(
                f"the app {lever.app} has no version {lever.version} in the App Store ({lever.platform}), but the "
                f"deployments say that {target.from_version} runs; nothing was touched"
            )
        match found.state:
            case "ACTIVE":
                left = max(_PAUSE_AT_MOST - found.paused_days, 0)
                hint = f"before {left} days of pause are over: the phased release then goes on by itself"
                note = f"whoever looks for {lever.version} in the App Store still gets it, paused or not"
                return Draft(
                    steps=(Move(lever=lever, was="ACTIVE", to="PAUSED", every=_EVERY),),
                    notes=(note,),
                    mitigations=(self.mitigation(target, "ios", hint),),
                )
            case "PAUSED":
                note = f"the {lever} is paused already"
            case "COMPLETE":
                note = f"the {lever} is complete: everybody gets {lever.version}, and Apple takes nothing back"
            case "INACTIVE":
                note = f"the {lever} has not begun ({found.version_state}): do not release {lever.version}"
            case _:
                note = f"{lever.version} has no phased release ({found.version_state}): there is nothing to pause"
        return Draft(steps=(), notes=(note,), mitigations=(self.mitigation(target, "ios"),))


_EVERY = 5.0
"""Seconds between two looks; their number in an hour is limited."""

"""The platform `android`: halts a release on Google Play. Its users keep it until a higher versionCode is published."""

from __future__ import annotations

from pydantic import Field, JsonValue

from responder.backends.app_stores.google_play_client import Release
from responder.backends.app_stores.play_release import PlayRelease, highest, listed, share_of
from responder.backends.sites.purge import Purge
from responder.backends.sites.version_text import VersionText, text_for
from responder.errors import StepFailed, UnexpectedVersion
from responder.rollback.gateway import Gateway
from responder.rollback.plan import Change, StrategyPlan
from responder.rollback.strategies.frontend.platform import PLANNED_WITHIN, StorePlatform, value_in
from responder.rollback.version_change import VersionChange


class Android(StorePlatform):
    """Halts a staged or full release. Google Play then serves the previous one to users who have not updated."""

    google_play: PlayRelease | None = Field(default=None, description="The app and its track on Google Play")
    name: VersionText = Field(
        default="{version}",
        description="Name of the release on the track, if no artifact has its versionCode; `41 (2.0)`, the default of "
        "the Play Console, is recognized as well",
    )

    @property
    def has_store(self) -> bool:
        """See StorePlatform.has_store."""
        return self.google_play is not None

    @property
    def hint(self) -> str:
        return "halt its release in the Play Console"

    def republish(self, target: VersionChange) -> str:
        code = self._code(target.from_artifacts)
        return (
            f"publish {target.to_version} again on Google Play, rebuilt with a versionCode above "
            f"{code or f'that of {target.from_version}'}: users of {target.from_version} get no lower one"
        )

    async def plan(self, gateway: Gateway, target: VersionChange, cache: Purge | None) -> StrategyPlan:
        play = self.google_play
        if play is None:
            return self.untouched(target, "android")
        brief = {"within": min(play.within, PLANNED_WITHIN)}
        try:
            releases = await gateway.ask(
                play.model_copy(update=brief), lambda client: client.read(play.package, play.track)
            )
        except StepFailed as failure:
            return self.untouched(target, "android", f"Google Play could not be read, so it was not changed: {failure}")
        bad, bad_code = self._find(releases, target.from_artifacts, target.from_version)
        if bad is None or bad.get("status") == "draft":
            wrong = "is a draft there" if bad else f"is not on it; {self._listed(releases)}"
            raise UnexpectedVersion(
                f"the {play}: the reported version is {target.from_version}, but it {wrong}; nothing was changed"
            )
        above = [release for release in releases if _has_users(release) and highest(release) > highest(bad)]
        if above:
            newer = f"{above[0].get('name') or highest(above[0])} is {above[0].get('status')} above {bad_code}"
            raise StepFailed(f"the {play}: {newer}: a newer release was published; nothing was changed")
        known = target.model_copy(update={"from_artifacts": {**target.from_artifacts, "android": bad_code}})
        good, good_code = self._find(releases, target.artifacts, target.to_version)
        codes = (bad_code, good_code) if good else (bad_code,)
        resource = play.model_copy(update={"codes": codes})
        before = dict(resource.shares(releases))
        to: dict[str, JsonValue] = {**before, bad_code: _halted(bad)}
        if good:
            to[good_code] = _served(good)
        notes = [_what_users_get(bad, good, target)]
        mitigation = self.mitigation(known, "android")
        if to == before:
            return StrategyPlan(
                steps=(), notes=(*notes, f"the {resource} is already halted"), mitigations=(mitigation,)
            )
        try:
            to, accepted = await self._accepted(gateway, resource.model_copy(update=brief), before, to, bad_code)
            notes += accepted
        except StepFailed as failure:
            note = f"Google Play refuses to halt {target.from_version}, so it was not changed: {failure}"
            mitigation = self.mitigation(known, "android", f"{self.hint}, if possible")
            return StrategyPlan(steps=(), notes=(note,), mitigations=(mitigation,))
        return StrategyPlan(
            steps=(Change(resource=resource, before=before, after=to, every=_EVERY),),
            notes=tuple(notes),
            mitigations=(mitigation,),
        )

    @staticmethod
    async def _accepted(
        gateway: Gateway, resource: PlayRelease, before: dict[str, JsonValue], to: dict[str, JsonValue], bad: str
    ) -> tuple[dict[str, JsonValue], tuple[str, ...]]:
        """Returns the change that Google Play accepts, and notes: at least the halt. Raises StepFailed."""
        try:
            return to, await gateway.preflight(resource, to)
        except StepFailed as refused:
            alone = {**before, bad: to[bad]}
            if alone == to:
                raise
            notes = await gateway.preflight(resource, alone)
            return alone, (*notes, f"Google Play refuses to resume the good release, which stays halted: {refused}")

    def _find(self, releases: list[Release], artifacts: dict[str, str], version: str) -> tuple[Release | None, str]:
        """Returns the release of a version and its versionCode, found by name if no artifact has the code.

        Of several builds with that name, returns the highest one that is not a draft.
        """
        if code := self._code(artifacts):
            return listed(releases, code), code
        name = text_for(self.name, version)
        named = [
            release
            for release in releases
            if highest(release) and release.get("name") in (name, f"{highest(release)} ({name})")
        ]
        if not named:
            return None, ""
        found = max(named, key=lambda release: (release.get("status") != "draft", highest(release)))
        return found, str(highest(found))

    @staticmethod
    def _code(artifacts: dict[str, str]) -> str:
        return value_in(artifacts.get("android", ""), "versionCode", r"\d+")

    @staticmethod
    def _listed(releases: list[Release]) -> str:
        text = ", ".join(
            f"{release.get('name', '(no name)')} ({highest(release)}, {release.get('status')})" for release in releases
        )
        return f"it lists {text or 'nothing'}; report its versionCode with the deployment, or set `name`"


def _has_users(release: Release) -> bool:
    return release.get("status") not in ("draft", "halted")


def _halted(release: Release) -> JsonValue:
    share = share_of(release)
    return {**share, "status": "halted"} if isinstance(share, dict) else share


def _served(release: Release) -> JsonValue:
    """Returns the share of the release. A halted one resumes with the share that it had."""
    share = share_of(release)
    if not isinstance(share, dict) or share["status"] != "halted":
        return share
    return {**share, "status": "inProgress" if "userFraction" in share else "completed"}


def _what_users_get(bad: Release, good: Release | None, target: VersionChange) -> str:
    kept = f"users of {target.from_version} keep it"
    if good is not None and (fraction := good.get("userFraction")):
        share = f"{100 * fraction:.4g} % of the others get {target.to_version}, as it was rolled out before"
        return f"{kept}; {share}, until its rollout is increased; the rest get the previous full release"
    if good is not None:
        return f"{kept}; all others get {target.to_version}"
    if bad.get("status") == "completed":
        return f"{kept}; all others get the previous release, which the track does not list"
    return f"{kept}; all others get the other releases of the track, but {target.to_version} is not among them"


_EVERY = 10.0
"""Seconds between two reads. Each read is an edit, and their number is limited."""

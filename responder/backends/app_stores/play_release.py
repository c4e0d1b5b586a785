"""Who gets which release of a track on Google Play. A release is known by its versionCode, which only ever goes up."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, JsonValue

from responder.backends.app_stores.google_play_client import GooglePlay, Release
from responder.backends.problems import Problem
from responder.backends.resource import Resource
from responder.config.durations import Duration
from responder.errors import Unavailable

Shares = dict[str, JsonValue]
"""By versionCode: what of a release says who gets it."""


class PlayRelease(Resource[GooglePlay, JsonValue]):
    """Status and share of the releases that a rollback is about; all others of the track stay as they are."""

    resource: Literal["play_release"] = "play_release"
    package: str = Field(pattern=r"^[A-Za-z]\w*(\.[A-Za-z]\w*)+$", description="The app, as com.example.shop")
    track: str = Field(default="production", pattern=r"^[\w:.-]+$", description="The track")
    changes_not_sent_for_review: bool = Field(
        default=False,
        description="Where Google Play demands it of this app: a change then waits in the Play Console for a person",
    )
    within: Duration = Field(default=300.0, gt=0, description="Deadline, waiting until it shows included")
    codes: tuple[str, ...] = Field(default=(), description="Set by the responder: the releases that it is about")

    @property
    def timeout(self) -> float:
        return self.within

    async def read(self, play: GooglePlay) -> JsonValue:
        return dict(self.shares(await play.read(self.package, self.track)))

    async def write(self, play: GooglePlay, value: JsonValue, *, expected: JsonValue) -> None:
        def change(found: list[Release]) -> list[Release] | None:
            self.must_be(dict(self.shares(found)), expected, value)
            return self.changed(found, value)

        sent = not self.changes_not_sent_for_review
        await play.write(self.package, self.track, change, sent_for_review=sent)
        if not self.same(await self.read(play), value):
            raise Unavailable(f"the {self} does not show yet what was committed")

    async def check_access(self, play: GooglePlay) -> list[Problem]:
        """An edit with the track as it is, validated and thrown away: it needs the rights that a change needs."""
        sent = not self.changes_not_sent_for_review
        await play.rehearse(self.package, self.track, lambda found: found or None, sent_for_review=sent)
        return []

    async def preflight(self, play: GooglePlay, value: JsonValue) -> tuple[str, ...]:
        sent = not self.changes_not_sent_for_review
        change = self.changed
        await play.rehearse(self.package, self.track, lambda found: change(found, value), sent_for_review=sent)
        note = "the change waits in the Play Console under Publishing overview until a person sends it for review"
        return () if sent else (f"{self}: {note}",)

    def same(self, found: JsonValue, value: JsonValue) -> bool:
        """What Google Play lists besides, as the release that takes the place of a halted one, is no drift."""
        if not isinstance(found, dict) or not isinstance(value, dict):
            return found == value
        return all(found.get(code) == share for code, share in value.items())

    def shares(self, releases: list[Release]) -> Shares:
        """Of the releases that it is about, those that the track lists."""
        return {code: share_of(release) for code in self.codes if (release := listed(releases, code)) is not None}

    def changed(self, found: list[Release], value: JsonValue) -> list[Release] | None:
        """All releases of the track, as an update must name them; None where there is nothing to change."""
        wanted: dict[str, Any] = value if isinstance(value, dict) else {}
        if self.same(dict(self.shares(found)), value):
            return None
        full = [int(code) for code, share in wanted.items() if share["status"] == "completed"]
        result = []
        for release in found:
            share = next((wanted[code] for code in wanted if code in release.get("versionCodes", ())), None)
            if share is not None:
                kept = {key: field for key, field in release.items() if key not in ("status", "userFraction")}
                result.append({**kept, **share})
            elif release.get("status") != "completed" or not full or highest(release) > max(full):
                # A release below a full one has no users to get: a track has one full release.
                result.append(release)
        return result

    def describe(self, value: JsonValue) -> str:
        if not isinstance(value, dict):
            return str(value)
        return ", ".join(f"{code} {_told(share)}" for code, share in value.items()) or "none of its releases"

    def __str__(self) -> str:
        return f"track {self.track} of {self.package} on Google Play"


def share_of(release: Release) -> JsonValue:
    share: dict[str, JsonValue] = {"status": release.get("status", "")}
    return {**share, "userFraction": release["userFraction"]} if "userFraction" in release else share


def listed(releases: list[Release], code: str) -> Release | None:
    """The release of that versionCode; it may have several, for several kinds of device."""
    return next((release for release in releases if code in release.get("versionCodes", ())), None)


def highest(release: Release) -> int:
    return max((int(code) for code in release.get("versionCodes", ())), default=0)


def _told(share: Any) -> str:
    part = f" for {100 * share['userFraction']:.4g} %" if "userFraction" in share else ""
    return f"{share['status']}{part}"

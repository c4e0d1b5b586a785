"""Releases of a track on Google Play. The versionCode identifies a release, and only increases."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, JsonValue

from foundation.durations import Duration
from responder.backends.app_stores.google_play_client import GooglePlay, Release
from responder.backends.problems import Problem
from responder.backends.resource import Resource
from responder.errors import Unavailable

Shares = dict[str, JsonValue]
"""By versionCode: the status of a release, and the share of users that get it."""


class PlayRelease(Resource[GooglePlay, JsonValue]):
    """Status and share of the releases in a rollback. Other releases of the track are not changed."""

    resource: Literal["play_release"] = "play_release"
    package: str = Field(
        pattern=r"^[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)+$", description="App, such as com.example.shop"
    )
    track: str = Field(default="production", pattern=r"^[A-Za-z0-9_:.-]+$", description="The track")
    changes_not_sent_for_review: bool = Field(
        default=False,
        description="If Google Play requires it: a person sends each change for review in the Play Console",
    )
    within: Duration = Field(default=300.0, gt=0, description="Deadline until the store shows the change")
    codes: tuple[str, ...] = Field(default=(), description="Set by the responder: the releases in the rollback")

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
            raise Unavailable(f"the {self} does not show the committed change yet")

    async def check_access(self, play: GooglePlay) -> list[Problem]:
        """Validates and discards an edit without changes, which needs the same permissions as a change."""
        sent = not self.changes_not_sent_for_review
        if not await play.read(self.package, self.track):
            return [Problem(str(self), "lists no release", "publish a release on it, or correct package and track")]
        await play.validate_change(self.package, self.track, lambda found: found or None, sent_for_review=sent)
        return []

    async def preflight(self, play: GooglePlay, value: JsonValue) -> tuple[str, ...]:
        sent = not self.changes_not_sent_for_review
        change = self.changed
        await play.validate_change(self.package, self.track, lambda found: change(found, value), sent_for_review=sent)
        note = (
            "a person must send the change for review in the Play Console, under Publishing overview; Google Play "
            "validates such a change only when it is made"
        )
        return () if sent else (f"{self}: {note}",)

    def same(self, found: JsonValue, value: JsonValue) -> bool:
        """Other releases are not drift, such as the one that replaces a halted release."""
        if not isinstance(found, dict) or not isinstance(value, dict):
            return found == value
        return all(found.get(code) == share for code, share in value.items())

    def shares(self, releases: list[Release]) -> Shares:
        """Returns status and share of those releases in `codes` that the track lists."""
        return {code: share_of(release) for code in self.codes if (release := listed(releases, code)) is not None}

    def changed(self, found: list[Release], value: JsonValue) -> list[Release] | None:
        """Returns all releases of the track, which an update must list, or None if nothing changes."""
        shares: dict[str, Any] = value if isinstance(value, dict) else {}
        if self.same(dict(self.shares(found)), value):
            return None
        full = [int(code) for code, share in shares.items() if share["status"] == "completed"]
        result = []
        for release in found:
            share = next((shares[code] for code in shares if code in release.get("versionCodes", ())), None)
            if share is not None:
                kept = {key: field for key, field in release.items() if key not in ("status", "userFraction")}
                result.append({**kept, **share})
            elif release.get("status") != "completed" or not full or highest(release) > max(full):
                # A track has one full release. Releases below it are dropped.
                result.append(release)
        return result

    def describe(self, value: JsonValue) -> str:
        if not isinstance(value, dict):
            return str(value)
        return ", ".join(f"{code} {_share_text(share)}" for code, share in value.items()) or "none of its releases"

    def __str__(self) -> str:
        return f"track {self.track} of {self.package} on Google Play"


def share_of(release: Release) -> JsonValue:
    share: dict[str, JsonValue] = {"status": release.get("status", "")}
    return {**share, "userFraction": release["userFraction"]} if "userFraction" in release else share


def listed(releases: list[Release], code: str) -> Release | None:
    """Returns the release with that versionCode. A release may have several, for different devices."""
    return next((release for release in releases if code in release.get("versionCodes", ())), None)


def highest(release: Release) -> int:
    return max((int(code) for code in release.get("versionCodes", ())), default=0)


def _share_text(share: Any) -> str:
    part = f" for {100 * share['userFraction']:.4g} %" if "userFraction" in share else ""
    return f"{share['status']}{part}"

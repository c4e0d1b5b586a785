"""A release that is copied to the prefix from which the site is served. Visitors see complete pages meanwhile."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from itertools import groupby
from typing import Any, Literal

from pydantic import Field, JsonValue

from foundation.durations import Duration
from responder.backends.problems import Problem
from responder.backends.sites.pointer_object import KEPT, storage_of
from responder.backends.sites.releases import BesideReleases, Release, Releases, StoredObject, each, listing, stored_at
from responder.backends.sites.rights import is_denied, put_problems
from responder.backends.sites.s3_url import S3Location, S3Url
from responder.backends.sites.swapping import TOO_LATE, swapping
from responder.backends.sites.version_text import pointer_problems, require_short
from responder.errors import Drift, StepFailed
from responder.transport.aws import Aws, AwsRefused

_LARGEST_COPY, _LONGEST_KEY = 5 << 30, 1024
"""Limits of S3: bytes of an object that it copies, and of a key."""
_FINISHED = b"finished"
"""The note after the last copy, if the credentials may not delete it."""


class LivePrefix(BesideReleases):
    """The version of the live prefix, according to its version document, which is copied last.

    Nothing is deleted, because open pages still load old files. A note beside the releases exists from the first copy
    to the last, so that an interrupted copy is detected after a crash. It lists the files found at the start, which
    distinguishes our own copies from those of another writer.
    """

    resource: Literal["live_prefix"] = "live_prefix"
    live: S3Url = Field(description="Prefix of the live site, such as s3://shop/live")
    releases: Releases = Field(description="Releases to copy there")
    version: str = Field(default="version.json", min_length=1, description="JSON document with the version")
    field: str = Field(default="version", min_length=1, description="Field of the document with the version")
    within: Duration = Field(default=600.0, gt=0, description="Deadline for copying all files")

    @property
    def timeout(self) -> float:
        return self.within

    @property
    def _location(self) -> S3Location:
        return S3Location.of(self.live)

    @property
    def _note(self) -> tuple[str, str]:
        root = S3Location.of(self.releases.s3)
        return root.bucket, root.key(f".copying-to-{hashlib.sha256(self.live.encode()).hexdigest()[:12]}.json")

    async def read(self, aws: Aws) -> JsonValue:
        return (await self._version(aws))[0]

    async def converged(self, aws: Aws, value: JsonValue) -> bool:
        note = await aws.content(*self._note)
        return await self.read(aws) == value and (note is None or note[0] == _FINISHED)

    async def write(self, aws: Aws, value: JsonValue, *, expected: JsonValue) -> None:
        release = await self.complete(aws, str(value))
        try:
            await self._copy_all(aws, release, expected, value)
        except Drift:
            # A human decides now. The next attempt starts from the state at that time.
            with suppress(StepFailed):
                if (note := await aws.content(*self._note)) and note[0] != _FINISHED:
                    await self._take_note(aws, expected, value, None)
            raise

    async def _copy_all(self, aws: Aws, release: Release, expected: JsonValue, value: JsonValue) -> None:
        self.must_be(await self.read(aws), expected, value)
        there = await listing(aws, self._location)
        before = await self._found_before(aws, expected, value)
        if before is None:
            before = {path: there[path] for path in release.files if path in there}
            await self._take_note(aws, expected, value, before)
        # New files first, because no page refers to them yet; then replaced files; pages last.
        stored = await storage_of(aws, self._location.bucket, self._location.key(self.version))
        rank = self.releases.rank
        assets = [path for path in release.files if not rank(path) and path != self.version]
        await self._copy(aws, release, [path for path in assets if path not in there], there, before, stored)
        await self._copy(aws, release, [path for path in assets if path in there], there, before, stored)
        there = await listing(aws, self._location)
        if lost := [path for path in assets if path not in there or there[path].size != release.files[path].size]:
            raise StepFailed(f"{self.live} lacks {lost[0]}, which was copied: another process deletes files there")
        # A deployment may have started meanwhile. Its pages are not overwritten.
        self.must_be(await self.read(aws), expected, value)
        pages = sorted((path for path in release.files if rank(path) and path != self.version), key=rank)
        for _, alike in groupby(pages, key=rank):
            await self._copy(aws, release, list(alike), there, before, stored)
        await self._write_version(aws, release, expected, value, stored)
        bucket, key = self._note
        try:
            await aws.write("s3", "delete_object", Bucket=bucket, Key=key)
        except AwsRefused as refused:
            if not is_denied(refused):
                raise
            await aws.write("s3", "put_object", Bucket=bucket, Key=key, Body=_FINISHED)

    async def _take_note(
        self, aws: Aws, expected: JsonValue, value: JsonValue, before: dict[str, StoredObject] | None
    ) -> None:
        bucket, key = self._note
        body = json.dumps({"live": self.live, "was": expected, "to": value, "before": before}).encode()
        await aws.write("s3", "put_object", Bucket=bucket, Key=key, Body=body)

    async def _found_before(self, aws: Aws, expected: JsonValue, value: JsonValue) -> dict[str, StoredObject] | None:
        """Returns the files that an earlier attempt of the same change found, or None without one."""
        if (found := await aws.content(*self._note)) is None:
            return None
        try:
            note = json.loads(found[0])
            same = (note["live"], note["was"], note["to"]) == (self.live, expected, value)
            return {path: StoredObject(*stored) for path, stored in note["before"].items()} if same else None
        except (ValueError, LookupError, TypeError, AttributeError):
            return None  # written by an older responder, or cleared after drift

    async def _copy(
        self,
        aws: Aws,
        release: Release,
        paths: list[str],
        there: dict[str, StoredObject],
        before: dict[str, StoredObject],
        stored: dict[str, Any],
    ) -> None:
        """Copies files that differ, with their metadata, inside S3.

        Of files that are compared by SHA-256, the metadata is compared as well.
        """

        async def copy_file(path: str) -> None:
            known = before.get(path)
            only = {**stored, "IfMatch": known.etag} if known else {**stored, "IfNoneMatch": "*"}
            only |= {"TaggingDirective": "REPLACE"} if "Tagging" in stored else {}
            source = {"Bucket": release.location.bucket, "Key": release.location.key(path)}
            target = {"Bucket": self._location.bucket, "Key": self._location.key(path)}
            with swapping(f"{self.live}/{path}"):
                try:
                    await aws.write("s3", "copy_object", **target, CopySource=source, **only)
                except AwsRefused as refused:
                    if refused.code not in TOO_LATE | {"NoSuchKey"}:  # the file to replace may have been deleted
                        raise
                    if await stored_at(aws, self._location, path) == known:
                        raise  # a concurrent write that failed
                    await self._must_be_ours(aws, release, path)

        async def is_stored_alike(path: str) -> bool:
            live = await _how_stored(aws, self._location, path)
            return live == await _how_stored(aws, release.location, path)

        same = {path for path in paths if there.get(path) == release.stored[path]}
        compared = [path for path in paths if path in same and self.releases.compares(path)]
        alike = dict(zip(compared, await each(aws, is_stored_alike, compared), strict=True))
        await each(aws, copy_file, [path for path in paths if path not in same or not alike.get(path, True)])

    async def _must_be_ours(self, aws: Aws, release: Release, path: str) -> None:
        """Raises Drift if a file changed meanwhile and is not our copy.

        It is our copy if an earlier request took effect late, after its answer was lost or its process had died.
        """
        found, file = await stored_at(aws, self._location, path), release.files[path]
        if found is not None and found.size == file.size:
            if found == release.stored[path]:
                return
            content = await aws.content(self._location.bucket, self._location.key(path))
            if content is not None and hashlib.sha256(content[0]).hexdigest() == file.sha256:
                return
        raise Drift(f"{self.live}/{path} was changed by another process during the copy to {self.live}")

    async def _write_version(
        self, aws: Aws, release: Release, expected: JsonValue, value: JsonValue, stored: dict[str, Any]
    ) -> None:
        found, etag = await self._version(aws)
        self.must_be(found, expected, value)
        content = await aws.content(release.location.bucket, release.location.key(self.version))
        if found == value or content is None:
            return
        body, like = content
        only: dict[str, Any] = {**stored, "IfMatch": etag} if etag else {"IfNoneMatch": "*"}
        kept = {name: like[name] for name in KEPT if like.get(name)}
        key = self._location.key(self.version)
        with swapping(self):
            await aws.write("s3", "put_object", Bucket=self._location.bucket, Key=key, Body=body, **kept, **only)

    async def _version(self, aws: Aws) -> tuple[str | None, str]:
        """Returns the version in the live version document, and its ETag."""
        found = await aws.content(self._location.bucket, self._location.key(self.version))
        return (None, "") if found is None else (self._version_in(found[0]), str(found[1]["ETag"]))

    def _version_in(self, body: bytes) -> str:
        try:
            return str(json.loads(body)[self.field])
        except (ValueError, KeyError, TypeError):
            return f"other: {body[:80].decode(errors='replace')}"

    async def complete(self, aws: Aws, version: str) -> Release:
        """Returns the complete release, whose version document must name the version. Raises StepFailed."""
        release = await self.releases.complete(aws, version)
        found = await aws.content(release.location.bucket, release.location.key(self.version))
        named = None if found is None else self._version_in(found[0])
        if self.version not in release.files or named != version:
            raise StepFailed(f"{self.releases.s3}/{version}/{self.version} has version {named!r}, expected {version!r}")
        for path, file in release.files.items():
            if file.size > _LARGEST_COPY:
                raise StepFailed(f"{path} has {file.size >> 20} MiB, but S3 copies at most {_LARGEST_COPY >> 20} MiB")
            require_short(self._location.key(path), _LONGEST_KEY, f"key of {path} in {self.live}")
        return release

    async def preflight(self, aws: Aws, value: JsonValue) -> tuple[str, ...]:
        try:
            await self.complete(aws, str(now := await self.read(aws)))
        except StepFailed as failure:
            return (f"reverting to {now} is not possible: {failure}",)
        return ()

    async def check_access(self, aws: Aws) -> list[Problem]:
        live = await self.read(aws)
        document = f"{self.live}/{self.version}"
        found = pointer_problems(document, live, f'{{"{self.field}": "{{version}}"}}')
        found = found or await self.releases.problems(aws, str(live))
        if found:
            return found
        bucket, key = self._location.bucket, self._location.key(self.version)
        return [
            *await put_problems(aws, bucket, key, **await storage_of(aws, bucket, key)),
            *await put_problems(aws, *self._note),
        ]

    def __str__(self) -> str:
        return f"live files in {self.live}"


async def _how_stored(aws: Aws, location: S3Location, path: str) -> list[Any]:
    head = await aws.read("s3", "head_object", Bucket=location.bucket, Key=location.key(path))
    return [head.get(name) or None for name in KEPT]

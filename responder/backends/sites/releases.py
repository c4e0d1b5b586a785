"""Releases in S3, each under its own prefix with a manifest of its files, which shows whether it is complete."""

from __future__ import annotations

import asyncio
import hashlib
from base64 import b64decode
from collections.abc import Awaitable, Callable, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Literal, NamedTuple, TypeVar

from pydantic import AfterValidator, Field, JsonValue, ValidationError

from foundation.models import FrozenModel, StrictModel
from responder.backends.problems import Problem
from responder.backends.resource import Resource
from responder.backends.sites.s3_url import S3Location, S3Url
from responder.errors import StepFailed
from responder.transport.aws import Aws

ENTRY = ("*.html", "asset-manifest.json", "*.webmanifest", "service-worker.js", "sw.js")
"""Entry documents in the order in which they are restored. Service workers come after the pages: an old worker that
still found a new page would cache that page forever.
"""

Item = TypeVar("Item")
Result = TypeVar("Result")
_LISTED, _ENDINGS = 5, 12
_SERVED = ("ContentType", "ContentEncoding", "CacheControl")
"""The number of names in a message."""


def _inside(path: str) -> str:
    if not all(part not in ("", ".", "..") for part in path.split("/")):
        raise ValueError(f"{path!r} is not a path inside the release")
    return path


class File(FrozenModel):
    """One file of a release."""

    size: int = Field(ge=0)
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class ReleaseManifest(FrozenModel):
    """The `manifest.json` of a release: its files."""

    files: Annotated[dict[Annotated[str, AfterValidator(_inside)], File], Field(min_length=1)]

    @classmethod
    def read(cls, text: str | bytes | None, where: str) -> ReleaseManifest:
        """Parses a manifest. Raises StepFailed if it is missing or malformed."""
        if text is None:
            raise StepFailed(f"{where} does not exist, so it is unknown whether the release is complete")
        try:
            return cls.model_validate_json(text)
        except ValidationError as e:
            first = e.errors()[0]
            field = ".".join(map(str, first["loc"]))
            raise StepFailed(f"{where} is not a manifest: {field}: {first['msg']}") from None


class StoredObject(NamedTuple):
    """An object in a listing. One content may have two ETags, but one ETag never has two contents."""

    size: int
    etag: str


class Release(NamedTuple):
    """One complete release."""

    location: S3Location
    files: dict[str, File]
    stored: dict[str, StoredObject]


class BesideReleases(Resource[Aws, JsonValue]):
    """A resource with longer timeouts, because a release may have many thousand files."""

    @property
    def timeout(self) -> float:
        return 180.0

    @property
    def read_timeout(self) -> float:
        return 30.0


class Releases(StrictModel):
    """Releases at `<s3>/<version>/`, each with its manifest."""

    s3: S3Url = Field(description="Parent of one directory per version, such as s3://shop/releases")
    manifest: str = Field(default="manifest.json", min_length=1, description="Name of the manifest in each directory")
    entry: tuple[str, ...] = Field(
        default=ENTRY,
        description="Patterns of files that refer to others: restored last, in this order",
    )
    checksums: Literal["entry", "all"] = Field(
        default="entry",
        description="Files to compare by SHA-256 and metadata: entry documents, or all (one request per file, "
        "two if already live)",
    )

    def location(self, version: str) -> S3Location:
        if version in ("", ".", "..") or "/" in version:
            raise StepFailed(f"{version!r} is not a valid release name")
        root = S3Location.of(self.s3)
        return S3Location(root.bucket, root.key(version))

    def rank(self, path: str) -> int:
        """Returns 0 for files that refer to no others. Files of a higher rank are restored later."""
        name = path.rpartition("/")[2]
        return next(
            (i for i, pattern in enumerate(self.entry, 1) if fnmatchcase(path, pattern) or fnmatchcase(name, pattern)),
            0,
        )

    def compares(self, path: str) -> bool:
        """Returns whether a file is compared by a separate request, not only in the listing."""
        return self.checksums == "all" or bool(self.rank(path))

    async def complete(self, aws: Aws, version: str) -> Release:
        """Returns a release whose files all exist as they were built. Raises StepFailed with the names of others."""
        location = self.location(version)
        where = f"{self.s3}/{version}"
        found = await aws.content(location.bucket, location.key(self.manifest))
        files = ReleaseManifest.read(found[0] if found else None, f"{where}/{self.manifest}").files
        stored, archived = await _listing(aws, location)
        if missing := sorted(files.keys() - stored.keys()):
            raise StepFailed(f"{where} is incomplete: {_names(missing)} missing")
        if other := sorted(path for path, file in files.items() if stored[path].size != file.size):
            raise StepFailed(f"{where} differs from its build: size of {_names(other)} not as in {self.manifest}")
        if cold := await _unreadable(aws, location, sorted(archived & files.keys())):
            raise StepFailed(f"{where} is archived: restore {_names(cold)} in a storage class that S3 can copy at once")
        compared = [path for path in files if self.compares(path)]

        async def differs(path: str) -> bool:
            key, expected = location.key(path), files[path].sha256
            if not self.rank(path) and await _s3_sha256(aws, location.bucket, key) == expected:
                return False
            found = await aws.content(location.bucket, key)
            return found is None or hashlib.sha256(found[0]).hexdigest() != expected

        other = [path for path, wrong in zip(compared, await each(aws, differs, compared), strict=True) if wrong]
        if other:
            raise StepFailed(
                f"{where} differs from its build: SHA-256 of {_names(sorted(other))} not as in the manifest"
            )
        return Release(location, files, {path: stored[path] for path in files})

    async def problems(self, aws: Aws, live: str) -> list[Problem]:
        """Returns problems of the releases, found in a short listing and in the manifest of the live one."""
        root = S3Location.of(self.s3)
        page = await aws.read("s3", "list_objects_v2", Bucket=root.bucket, Prefix=root.key(""), MaxKeys=1)
        if not page.get("Contents"):
            return [Problem(self.s3, "is empty", "upload each release there, or correct releases.s3")]
        location = self.location(live)
        found = await aws.content(location.bucket, location.key(self.manifest))
        try:
            ReleaseManifest.read(found[0] if found else None, f"{self.s3}/{live}/{self.manifest}")
        except StepFailed as failure:
            return [Problem(f"{self.s3}/{live}", str(failure), "write the manifest when the release is built")]
        return []


async def listing(aws: Aws, location: S3Location) -> dict[str, StoredObject]:
    """Returns all objects under a location by their relative path."""
    return (await _listing(aws, location))[0]


async def _listing(aws: Aws, location: S3Location) -> tuple[dict[str, StoredObject], set[str]]:
    """Returns all objects under a location, and the paths of those that a lifecycle rule has archived."""
    before = location.key("")
    found = {item["Key"].removeprefix(before): item for item in await aws.objects(location.bucket, before)}
    archived = {path for path, item in found.items() if item.get("StorageClass") in ("GLACIER", "DEEP_ARCHIVE")}
    return {path: StoredObject(item["Size"], item["ETag"]) for path, item in found.items()}, archived


async def _unreadable(aws: Aws, location: S3Location, archived: list[str]) -> list[str]:
    """Returns those of the archived objects of which no restored copy exists."""

    async def restored(path: str) -> bool:
        head = await aws.read("s3", "head_object", Bucket=location.bucket, Key=location.key(path))
        return 'ongoing-request="false"' in str(head.get("Restore"))

    return [path for path, found in zip(archived, await each(aws, restored, archived), strict=True) if not found]


async def stored_unlike(aws: Aws, good: S3Location, live: S3Location, paths: list[str]) -> tuple[str, ...]:
    """Returns notes about metadata of a kept release that differs from that of the live one, as after a partial upload.

    `paths`: the files of the good release. Of each ending, one file is compared that both have, and one that only one
    of them has, because its name contains a hash.
    """
    theirs, notes = await listing(aws, live), list[str]()
    for ending in sorted({path.rpartition(".")[2] for path in paths})[:_ENDINGS]:
        ours, others = ([p for p in sorted(all_) if p.rpartition(".")[2] == ending] for all_ in (paths, theirs))
        both = sorted(set(ours) & set(others), key=lambda path: (path != "index.html", path))[:1]
        pairs = [(path, path) for path in both]
        pairs += list(zip(sorted(set(ours) - set(others)), sorted(set(others) - set(ours)), strict=False))[:1]
        for path, other in pairs:
            names = _SERVED if path == other else _SERVED[:2]  # files with a hash are cached by other rules
            request = {"Bucket": good.bucket, "Key": good.key(path)}, {"Bucket": live.bucket, "Key": live.key(other)}
            kept, served = [await aws.read("s3", "head_object", **which) for which in request]
            notes += [
                f"{path} is stored with {name} {kept.get(name) or 'none'}, not {served.get(name) or 'none'} as in the "
                "live release"
                for name in names
                if kept.get(name) != served.get(name)
            ]
    return tuple(notes)


async def stored_at(aws: Aws, location: S3Location, path: str) -> StoredObject | None:
    """Returns one object under a location, or None if it does not exist."""
    key = location.key(path)
    page = await aws.read("s3", "list_objects_v2", Bucket=location.bucket, Prefix=key, MaxKeys=1)
    return next(
        (StoredObject(item["Size"], item["ETag"]) for item in page.get("Contents", ()) if item["Key"] == key), None
    )


async def each(aws: Aws, act: Callable[[Item], Awaitable[Result]], items: Sequence[Item]) -> list[Result]:
    """Returns the results of `act` for all items, run on all connections.

    After an error no further item is started. The error is raised when the running ones have ended, so that no late
    write follows.
    """
    todo, done, errors = iter(enumerate(items)), dict[int, Result](), list[BaseException]()

    async def work() -> None:
        for number, item in todo:
            if errors:
                return
            try:
                done[number] = await act(item)
            except BaseException as e:
                errors.append(e)
                raise

    workers = (work() for _ in range(min(aws.connections, len(items))))
    await asyncio.gather(*workers, return_exceptions=True)
    if errors:
        raise errors[0]
    return [done[number] for number in range(len(items))]


async def _s3_sha256(aws: Aws, bucket: str, key: str) -> str:
    """Returns the SHA-256 that S3 stores for an object, or an empty text. It saves reading the object."""
    head = await aws.read("s3", "head_object", Bucket=bucket, Key=key, ChecksumMode="ENABLED")
    try:
        return b64decode(head.get("ChecksumSHA256", ""), validate=True).hex()
    except ValueError:
        return ""  # of a multipart upload: not the SHA-256 of the content


def _names(paths: list[str]) -> str:
    listed = ", ".join(paths[:_LISTED]) + (f" and {len(paths) - _LISTED} more" if len(paths) > _LISTED else "")

    return f"{listed} {'is' if len(paths) == 1 else 'are'}"

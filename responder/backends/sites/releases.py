"""Releases in S3, one prefix each, and whether one is whole: by the list of files that was made when it was built."""

from __future__ import annotations

import asyncio
import hashlib
from base64 import b64decode
from collections.abc import Awaitable, Callable, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError

from responder.backends.problems import Problem
from responder.backends.resource import Resource
from responder.backends.sites.s3_url import S3Place, S3Url
from responder.errors import StepFailed
from responder.transport.aws import Aws

ENTRY = ("*.html", "asset-manifest.json", "*.webmanifest", "service-worker.js", "sw.js")
"""Service workers after the pages: an old one that still found a new page would keep that page for good."""

Item = TypeVar("Item")
Result = TypeVar("Result")
_TOLD = 5
"""Names that a message tells at most."""


def _inside(path: str) -> str:
    if not all(part not in ("", ".", "..") for part in path.split("/")):
        raise ValueError(f"{path!r} is no path inside the release")
    return path


class File(BaseModel):
    """One file of a release."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    size: int = Field(ge=0)
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Manifest(BaseModel):
    """`manifest.json` of a release: what belongs to it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    files: Annotated[dict[Annotated[str, AfterValidator(_inside)], File], Field(min_length=1)]

    @classmethod
    def read(cls, text: str | bytes | None, where: str) -> Manifest:
        """Raises Halt where there is none, or it is something else."""
        if text is None:
            raise StepFailed(f"there is no {where}: nobody can say whether that release is whole")
        try:
            return cls.model_validate_json(text)
        except ValidationError as e:
            first = e.errors()[0]
            field = ".".join(map(str, first["loc"]))
            raise StepFailed(f"{where} is no list of files: {field}: {first['msg']}") from None


class Stored(NamedTuple):
    """What a listing tells of an object; the same content may have two ETags, but never one ETag two contents."""

    size: int
    etag: str


class Release(NamedTuple):
    """One whole release."""

    location: S3Place
    files: dict[str, File]
    stored: dict[str, Stored]


class BesideReleases(Resource[Aws, JsonValue]):
    """A resource that is also asked whether a release of many thousand files is whole."""

    @property
    def timeout(self) -> float:
        return 180.0

    @property
    def read_timeout(self) -> float:
        return 30.0


class Releases(BaseModel):
    """Where the releases are: `<s3>/<version>/`, each with the list of its files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    s3: S3Url = Field(description="What has one directory per version, as s3://shop/releases")
    manifest: str = Field(default="manifest.json", min_length=1, description="The list of files in each of them")
    entry: tuple[str, ...] = Field(
        default=ENTRY,
        description="Files that name others, as patterns in the order in which they are put back, after all others",
    )
    checksums: Literal["entry", "all"] = Field(
        default="entry",
        description="Whose SHA-256, and what they are stored with, is compared: entry documents, or all (one request "
        "for each file, and two where it is live already)",
    )

    def location(self, version: str) -> S3Place:
        if version in ("", ".", "..") or "/" in version:
            raise StepFailed(f"{version!r} is no name of a release")
        root = S3Place.of(self.s3)
        return S3Place(root.bucket, root.key(version))

    def rank(self, path: str) -> int:
        """0 for what no other file needs to be there before; higher, later."""
        name = path.rpartition("/")[2]
        return next(
            (i for i, pattern in enumerate(self.entry, 1) if fnmatchcase(path, pattern) or fnmatchcase(name, pattern)),
            0,
        )

    def compares(self, path: str) -> bool:
        """Whether a file is looked at by itself, and not only by what a listing tells of it."""
        return self.checksums == "all" or bool(self.rank(path))

    async def whole(self, aws: Aws, version: str) -> Release:
        """The release, with nothing missing and nothing that is not as it was built. Raises Halt with the names."""
        location = self.location(version)
        where = f"{self.s3}/{version}"
        found = await aws.content(location.bucket, location.key(self.manifest))
        files = Manifest.read(found[0] if found else None, f"{where}/{self.manifest}").files
        stored = await listing(aws, location)
        if missing := sorted(files.keys() - stored.keys()):
            raise StepFailed(f"{where} is not whole: {_names(missing)} missing")
        if other := sorted(path for path, file in files.items() if stored[path].size != file.size):
            raise StepFailed(f"{where} is not what was built: {_names(other)} of another size than in {self.manifest}")
        compared = [path for path in files if self.compares(path)]

        async def differs(path: str) -> bool:
            key, wanted = location.key(path), files[path].sha256
            if not self.rank(path) and await _vouched(aws, location.bucket, key) == wanted:
                return False
            found = await aws.content(location.bucket, key)
            return found is None or hashlib.sha256(found[0]).hexdigest() != wanted

        other = [path for path, wrong in zip(compared, await each(aws, differs, compared), strict=True) if wrong]
        if other:
            raise StepFailed(f"{where} is not what was built: {_names(sorted(other))} with another SHA-256")
        return Release(location, files, {path: stored[path] for path in files})

    async def problems(self, aws: Aws, live: str) -> list[Problem]:
        """What is wrong with the releases, by a short listing and the manifest of the one that is live."""
        root = S3Place.of(self.s3)
        page = await aws.read("s3", "list_objects_v2", Bucket=root.bucket, Prefix=root.key(""), MaxKeys=1)
        if not page.get("Contents"):
            return [Problem(self.s3, "contains nothing", "put each release there, or correct releases.s3")]
        location = self.location(live)
        found = await aws.content(location.bucket, location.key(self.manifest))
        try:
            Manifest.read(found[0] if found else None, f"{self.s3}/{live}/{self.manifest}")
        except StepFailed as failure:
            return [Problem(f"{self.s3}/{live}", str(failure), "write it when the release is built")]
        return []


async def listing(aws: Aws, location: S3Place) -> dict[str, Stored]:
    """All that lies there, by its path below."""
    found: dict[str, Stored] = {}
    before = location.key("")
    more: dict[str, Any] = {}
    while True:
        page = await aws.read("s3", "list_objects_v2", Bucket=location.bucket, Prefix=before, **more)
        for item in page.get("Contents", ()):
            found[item["Key"].removeprefix(before)] = Stored(item["Size"], item["ETag"])
        if not page.get("IsTruncated"):
            return found
        more = {"ContinuationToken": page["NextContinuationToken"]}


async def stored_at(aws: Aws, location: S3Place, path: str) -> Stored | None:
    """The same of one of them; None where there is nothing."""
    key = location.key(path)
    page = await aws.read("s3", "list_objects_v2", Bucket=location.bucket, Prefix=key, MaxKeys=1)
    return next((Stored(item["Size"], item["ETag"]) for item in page.get("Contents", ()) if item["Key"] == key), None)


async def each(aws: Aws, act: Callable[[Item], Awaitable[Result]], items: Sequence[Item]) -> list[Result]:
    """Acts on all of them, as many at once as there are connections.

    After a mistake nothing more is begun, and it is raised once what was under way has ended: what comes next must
    not meet a late echo of it.
    """
    todo, done, wrong = iter(enumerate(items)), dict[int, Result](), list[BaseException]()

    async def work() -> None:
        for number, item in todo:
            if wrong:
                return
            try:
                done[number] = await act(item)
            except BaseException as e:
                wrong.append(e)
                raise

    workers = (work() for _ in range(min(aws.connections, len(items))))
    await asyncio.gather(*workers, return_exceptions=True)
    if wrong:
        raise wrong[0]
    return [done[number] for number in range(len(items))]


async def _vouched(aws: Aws, bucket: str, key: str) -> str:
    """The SHA-256 that S3 vouches for, where it was uploaded with that checksum: it spares fetching all of it."""
    head = await aws.read("s3", "head_object", Bucket=bucket, Key=key, ChecksumMode="ENABLED")
    try:
        return b64decode(head.get("ChecksumSHA256", ""), validate=True).hex()
    except ValueError:
        return ""  # of an upload in parts: not of the whole


def _names(paths: list[str]) -> str:
    listed = ", ".join(paths[:_TOLD]) + (f" and {len(paths) - _TOLD} more" if len(paths) > _TOLD else "")
    return f"{listed} {'is' if len(paths) == 1 else 'are'}"

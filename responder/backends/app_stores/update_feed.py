"""The update feed of a desktop app. A rollback replaces the live feed with the one kept for the good version."""

from __future__ import annotations

from abc import abstractmethod
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple

from pydantic import Field, JsonValue

from responder.backends.accessible import C
from responder.backends.app_stores.feeds import FeedFormat, staged_for, version_in
from responder.backends.host.client import Local
from responder.backends.host.release import AbsolutePath, PlainName
from responder.backends.problems import Problem, joined
from responder.backends.resource import Resource
from responder.backends.sites.pointer_object import KEPT, REDIRECT, storage_of
from responder.backends.sites.rights import put_problems
from responder.backends.sites.s3_url import S3Location, S3Url
from responder.backends.sites.swapping import swapping
from responder.backends.sites.version_text import VersionText, text_for
from responder.errors import StepFailed
from responder.transport.aws import Aws


class StoredFeed(NamedTuple):
    body: bytes
    metadata: dict[str, Any]  # of S3; empty for a file


class _Feed(Resource[C, JsonValue], Generic[C]):
    """The value is the version that the feed offers. Files beside it, such as its signature, are written before it.

    For a moment a client may see a signature that does not match the feed. It then waits.
    """

    format: FeedFormat = Field(description="Appcast of Sparkle, RELEASES of Squirrel or latest.yml of electron-updater")
    beside: tuple[PlainName, ...] = Field(default=(), description="Files that belong to the feed, in its directory")

    async def read(self, client: C) -> JsonValue:
        found = await self._get(client, self._live(self.name))
        return None if found is None else self._offered(found.body)

    async def write(self, client: C, value: JsonValue, *, expected: JsonValue) -> None:
        files = await self.kept_feed(client, str(value))
        found = await self.read(client)
        self.must_be(found, expected, value)
        if found != value and isinstance(found, str):
            await self._keep(client, found)
        for name in (*self.beside, self.name):
            live = await self._get(client, self._live(name))
            if name == self.name:
                self.must_be(None if live is None else self._offered(live.body), expected, value)
            if live is None or live.body != files[name].body:
                await self._put(client, self._live(name), files[name], live)

    async def converged(self, client: C, value: JsonValue) -> bool:
        files = await self._kept_files(client, str(value))
        for name, kept in files.items():
            live = await self._get(client, self._live(name))
            if kept is None or live is None or live.body != kept.body:
                return False
        return True

    async def check_access(self, client: C) -> list[Problem]:
        live, found = self._live(self.name), await self.read(client)
        if found is None:
            return [Problem(live, "does not exist", "write the feed of the live version to it")]
        if str(found).startswith("other: "):
            return [Problem(live, str(found)[7:], f"correct the feed, or format: {self.format}")]
        return await self._write_problems(client)

    async def _write_problems(self, client: C) -> list[Problem]:
        """Returns obstacles to writing beside the live feed that can be detected without writing."""
        return []

    async def preflight(self, client: C, value: JsonValue) -> tuple[str, ...]:
        files = await self.kept_feed(client, str(value))
        share = staged_for(self.format, files[self.name].body, datetime.now(UTC))
        notes = (
            (f"the feed kept for {value} offers it to {share} of the users only: correct it first",) if share else ()
        )
        if problems := await self._write_problems(client):
            raise StepFailed(joined(problems))
        now = await self._get(client, self._live(self.name))
        kept = None if now is None else await self._get(client, self._kept(self._offered(now.body), self.name))
        if now is None or kept is None or kept.body == now.body:
            return notes
        note = f"the feed kept for {self._offered(now.body)} differs from the live one"
        return (*notes, f"{note}: reverting restores the kept one")

    async def kept_feed(self, client: C, version: str) -> dict[str, StoredFeed]:
        """Returns the files of a version's feed by name. Raises StepFailed if one is missing or of another version."""
        files = await self._kept_files(client, version)
        if missing := [name for name, file in files.items() if file is None]:
            raise StepFailed(f"{self._kept(version, missing[0])} does not exist: keep the feed of each version there")
        found = {name: file for name, file in files.items() if file is not None}
        if (offered := self._offered(found[self.name].body)) != version:
            raise StepFailed(f"{self._kept(version, self.name)} offers {offered}, not {version}")
        return found

    async def _kept_files(self, client: C, version: str) -> dict[str, StoredFeed | None]:
        names = (*self.beside, self.name)
        return {name: await self._get(client, self._kept(version, name)) for name in names}

    async def _keep(self, client: C, version: str) -> None:
        """Keeps the live feed for a revert, unless it is kept already. The feed is written last."""
        if version.startswith("other: ") or await self._get(client, self._kept(version, self.name)) is not None:
            return
        for name in (*self.beside, self.name):
            if (live := await self._get(client, self._live(name))) is not None:
                location = self._kept(version, name)
                await self._put(client, location, live, await self._get(client, location))

    def _offered(self, feed: bytes) -> str:
        try:
            return version_in(self.format, feed)
        except StepFailed as failure:
            return f"other: {failure}"

    @property
    @abstractmethod
    def name(self) -> str: ...

    @abstractmethod
    def _live(self, name: str) -> str: ...

    @abstractmethod
    def _kept(self, version: str, name: str) -> str: ...

    @abstractmethod
    async def _get(self, client: C, location: str) -> StoredFeed | None: ...

    @abstractmethod
    async def _put(self, client: C, location: str, what: StoredFeed, there: StoredFeed | None) -> None: ...


class UpdateFeed(_Feed[Local]):
    """A feed in a directory of the responder's host."""

    resource: Literal["update_feed"] = "update_feed"
    file: AbsolutePath = Field(description="Live feed, such as /srv/updates/appcast.xml")
    kept: Annotated[VersionText, Field(pattern="^/")] = Field(
        description="Directory with the feed of each version, such as /srv/updates/{version}; same file names"
    )

    @property
    def name(self) -> str:
        return self.file.name

    def _live(self, name: str) -> str:
        return str(self.file.with_name(name))

    def _kept(self, version: str, name: str) -> str:
        return f"{text_for(self.kept, version)}/{name}"

    async def _get(self, local: Local, location: str) -> StoredFeed | None:
        found = await local.content(Path(location))
        return None if found is None else StoredFeed(found, {})

    async def _put(self, local: Local, location: str, what: StoredFeed, there: StoredFeed | None) -> None:
        await local.write(Path(location), what.body, parents=True)

    async def _write_problems(self, client: Local) -> list[Problem]:
        return await client.replacement_problems(self.file)

    def __str__(self) -> str:
        return f"update feed {self.file}"


class UpdateFeedObject(_Feed[Aws]):
    """A feed in S3. Concurrent changes are detected and never overwritten."""

    resource: Literal["update_feed_object"] = "update_feed_object"
    object: S3Url = Field(description="Live feed, such as s3://shop/updates/appcast.xml")
    kept: VersionText = Field(
        pattern="^s3://", description="Prefix with the feed of each version, such as s3://shop/updates/{version}"
    )

    @property
    def name(self) -> str:
        return self.object.rpartition("/")[2]

    def _live(self, name: str) -> str:
        return f"{self.object.rpartition('/')[0]}/{name}"

    def _kept(self, version: str, name: str) -> str:
        return f"{text_for(self.kept, version)}/{name}"

    async def _get(self, aws: Aws, location: str) -> StoredFeed | None:
        found = await aws.content(*S3Location.of(location))
        return None if found is None else StoredFeed(*found)

    async def _put(self, aws: Aws, location: str, what: StoredFeed, there: StoredFeed | None) -> None:
        bucket, key = S3Location.of(location)
        only: dict[str, Any] = {"IfMatch": there.metadata["ETag"]} if there else {"IfNoneMatch": "*"}
        like = (there or what).metadata
        kept = {name: like[name] for name in (*KEPT, REDIRECT) if like.get(name)}
        only |= await storage_of(aws, bucket, key) if there else {}
        with swapping(self):
            await aws.write("s3", "put_object", Bucket=bucket, Key=key, Body=what.body, **kept, **only)

    async def _write_problems(self, client: Aws) -> list[Problem]:
        bucket, key = S3Location.of(self.object)
        return await put_problems(client, bucket, key, **await storage_of(client, bucket, key))

    def __str__(self) -> str:
        return f"update feed {self.object}"

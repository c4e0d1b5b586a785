"""The feed that tells desktop apps what to update to: the one of the good version, put in the place of the live one."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple

from pydantic import Field, JsonValue

from responder.backends.accessible import C
from responder.backends.app_stores.feeds import FeedFormat, version_in
from responder.backends.host.client import Local
from responder.backends.host.release import AbsolutePath, PlainName
from responder.backends.problems import Problem, joined
from responder.backends.resource import Resource
from responder.backends.sites.pointer_object import KEPT, acl_of
from responder.backends.sites.s3_url import S3Place, S3Url
from responder.backends.sites.swapping import swapping
from responder.backends.sites.version_text import VersionText, text_for
from responder.errors import StepFailed
from responder.transport.aws import Aws


class Stored(NamedTuple):
    body: bytes
    metadata: dict[str, Any]  # how it is stored, where that is more than a file


class _Feed(Resource[C, JsonValue], Generic[C]):
    """Its value is the version that the feed offers. Files beside it, as its signature, go with it: before it.

    Between them and the feed there is a moment in which a client finds a signature that does not fit, and waits.
    """

    format: FeedFormat = Field(description="Sparkle's appcast, Squirrel's RELEASES or electron-updater's latest.yml")
    beside: tuple[PlainName, ...] = Field(default=(), description="Files beside the feed that belong to it")

    async def read(self, client: C) -> JsonValue:
        found = await self._get(client, self._live(self.name))
        return None if found is None else self._offered(found.body)

    async def write(self, client: C, value: JsonValue, *, expected: JsonValue) -> None:
        wanted = await self.kept_feed(client, str(value))
        found = await self.read(client)
        self.must_be(found, expected, value)
        if found != value and isinstance(found, str):
            await self._keep(client, found)
        for name in (*self.beside, self.name):
            there = await self._get(client, self._live(name))
            if name == self.name:
                self.must_be(None if there is None else self._offered(there.body), expected, value)
            if there is None or there.body != wanted[name].body:
                await self._put(client, self._live(name), wanted[name], there)

    async def converged(self, client: C, value: JsonValue) -> bool:
        wanted = await self._kept_files(client, str(value))
        for name, kept in wanted.items():
            there = await self._get(client, self._live(name))
            if kept is None or there is None or there.body != kept.body:
                return False
        return True

    async def check_access(self, client: C) -> list[Problem]:
        live, found = self._live(self.name), await self.read(client)
        if found is None:
            return [Problem(live, "does not exist", "put the feed of the live version there")]
        if str(found).startswith("other: "):
            return [Problem(live, str(found)[7:], f"correct the feed, or format: {self.format}")]
        return await self._write_problems(client)

    async def _write_problems(self, client: C) -> list[Problem]:
        """Why nothing can be written beside the live feed, as far as that shows without writing."""
        return []

    async def preflight(self, client: C, value: JsonValue) -> tuple[str, ...]:
        await self.kept_feed(client, str(value))
        if problems := await self._write_problems(client):
            raise StepFailed(joined(problems))
        now = await self._get(client, self._live(self.name))
        kept = None if now is None else await self._get(client, self._kept(self._offered(now.body), self.name))
        if now is None or kept is None or kept.body == now.body:
            return ()
        note = f"the feed kept for {self._offered(now.body)} differs from the live one"
        return (f"{note}: should this be turned back, the kept one is what is put back",)

    async def kept_feed(self, client: C, version: str) -> dict[str, Stored]:
        """The feed of a version and what goes with it, by name. Raises Halt where it is not kept, or another's."""
        files = await self._kept_files(client, version)
        if missing := [name for name, file in files.items() if file is None]:
            raise StepFailed(f"there is no {self._kept(version, missing[0])}: keep each version's feed there")
        found = {name: file for name, file in files.items() if file is not None}
        if (offered := self._offered(found[self.name].body)) != version:
            raise StepFailed(f"{self._kept(version, self.name)} offers {offered}, not {version}")
        return found

    async def _kept_files(self, client: C, version: str) -> dict[str, Stored | None]:
        names = (*self.beside, self.name)
        return {name: await self._get(client, self._kept(version, name)) for name in names}

    async def _keep(self, client: C, version: str) -> None:
        """The live feed, where nobody kept it: else there would be no way back. The feed comes last, as its mark."""
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
    async def _get(self, client: C, location: str) -> Stored | None: ...

    @abstractmethod
    async def _put(self, client: C, location: str, what: Stored, there: Stored | None) -> None: ...


class UpdateFeed(_Feed[Local]):
    """The feed in a directory of the host that the responder runs on."""

    resource: Literal["update_feed"] = "update_feed"
    file: AbsolutePath = Field(description="The live feed, as /srv/updates/appcast.xml")
    kept: Annotated[VersionText, Field(pattern="^/")] = Field(
        description="Directory of the feed of each version, as /srv/updates/{version}; files have the same names there"
    )

    @property
    def name(self) -> str:
        return self.file.name

    def _live(self, name: str) -> str:
        return str(self.file.with_name(name))

    def _kept(self, version: str, name: str) -> str:
        return f"{text_for(self.kept, version)}/{name}"

    async def _get(self, local: Local, location: str) -> Stored | None:
        found = await local.content(Path(location))
        return None if found is None else Stored(found, {})

    async def _put(self, local: Local, location: str, what: Stored, there: Stored | None) -> None:
        await local.write(Path(location), what.body, parents=True)

    async def _write_problems(self, client: Local) -> list[Problem]:
        return await client.replacement_problems(self.file)

    def __str__(self) -> str:
        return f"update feed {self.file}"


class UpdateFeedObject(_Feed[Aws]):
    """The feed in S3, where whoever was too late looks again instead of writing over it."""

    resource: Literal["update_feed_object"] = "update_feed_object"
    object: S3Url = Field(description="The live feed, as s3://shop/updates/appcast.xml")
    kept: VersionText = Field(
        pattern="^s3://", description="What each version's feed is kept under, as s3://shop/updates/{version}"
    )

    @property
    def name(self) -> str:
        return self.object.rpartition("/")[2]

    def _live(self, name: str) -> str:
        return f"{self.object.rpartition('/')[0]}/{name}"

    def _kept(self, version: str, name: str) -> str:
        return f"{text_for(self.kept, version)}/{name}"

    async def _get(self, aws: Aws, location: str) -> Stored | None:
        found = await aws.content(*S3Place.of(location))
        return None if found is None else Stored(*found)

    async def _put(self, aws: Aws, location: str, what: Stored, there: Stored | None) -> None:
        bucket, key = S3Place.of(location)
        only: dict[str, Any] = {"IfMatch": there.metadata["ETag"]} if there else {"IfNoneMatch": "*"}
        like = (there or what).metadata
        kept = {name: like[name] for name in KEPT if like.get(name)}
        only |= await acl_of(aws, bucket, key) if there else {}
        with swapping(self):
            await aws.write("s3", "put_object", Bucket=bucket, Key=key, Body=what.body, **kept, **only)

    def __str__(self) -> str:
        return f"update feed {self.object}"

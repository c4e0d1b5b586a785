"""A site goes back to a release that is whole, and nobody believes it before the edge serves it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, Tag, model_validator

from responder.checks import HttpCheck
from responder.durations import Duration
from responder.errors import Halt
from responder.levers import CurrentRelease
from responder.levers.lever import Lever
from responder.levers.web import (
    CloudfrontInvalidation,
    CloudfrontKey,
    FastlyVersion,
    LivePrefix,
    OriginPath,
    PointerObject,
    Purge,
)
from responder.levers.web.releases import File, Manifest, Releases
from responder.plan import Draft, Gate, Move
from responder.problems import Problem
from responder.strategies.frontend.platform import Platform, emptied
from responder.strategies.strategy import Target, read_expecting, value_of
from responder.tagged import told_by_key
from responder.world import World

Pointer = Annotated[
    Annotated[CloudfrontKey, Tag("<kvs>")]
    | Annotated[OriginPath, Tag("<origin_path>")]
    | Annotated[PointerObject, Tag("<object>")]
    | Annotated[FastlyVersion, Tag("<fastly>")],
    told_by_key("pointer", "kvs", "origin_path", "object", "fastly"),
]


class Edge(BaseModel):
    """What visitors get, asked where they get it: best from more than one place."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: tuple[HttpUrl, ...] = Field(default=(), description="JSON documents that say the version")
    field: str = Field(default="version", description="Their field that does; dots go deeper")
    pages: dict[HttpUrl, str] = Field(
        default_factory=dict,
        description="Pages, and the files of the release that they must be, as {https://shop.example/: index.html}",
    )
    hold_for: Duration = Field(default=5.0, description="How long all of them must be so without a break")
    within: Duration = Field(default=300.0, gt=0, description="Deadline for that")

    @model_validator(mode="after")
    def _asks_something(self) -> Edge:
        if not self.version and not self.pages:
            raise ValueError("needs at least one URL in version or pages: else nobody knows what users get")
        return self

    def gate(self, version: str, files: dict[str, File]) -> Gate:
        """Raises Halt where a page is no file of the release."""
        checks = [HttpCheck(http=url, fields={self.field: version}, every_address=True) for url in self.version]
        for url, path in self.pages.items():
            if path not in files:
                raise Halt(f"{path} is no file of the release {version}, so {url} cannot be compared with it")
            checks.append(HttpCheck(http=url, sha256=files[path].sha256, every_address=True))
        name = f"the edge serves {version}"
        return Gate(name=name, checks=tuple(checks), hold_for=self.hold_for, within=self.within)


class Web(Platform):
    """One of three ways: a pointer is switched, a release is copied, or a link on this host is switched."""

    pointer: Pointer | None = Field(default=None, description="What says which release is served")
    copied: LivePrefix | None = Field(default=None, alias="copy", description="Where a release is copied to in S3")
    local: CurrentRelease | None = Field(default=None, description="Directory of releases with a `current` link")
    releases: Releases | None = Field(default=None, description="Beside a pointer: where in S3 the releases are")
    edge: Edge = Field(description="What visitors get, and how that shows the version")

    @model_validator(mode="after")
    def _fits_together(self) -> Web:
        if sum(option is not None for option in (self.pointer, self.copied, self.local)) != 1:
            raise ValueError("needs exactly one of pointer, copy, local")
        in_s3 = isinstance(self.pointer, CloudfrontKey | OriginPath | PointerObject)
        if in_s3 and self.releases is None:
            raise ValueError("releases: is missing: nobody could say whether the good release is whole")
        if not in_s3 and self.releases is not None:
            raise ValueError("releases: belongs to a pointer of Amazon's; copy and local have their own")
        if self.edge.pages and isinstance(self.pointer, FastlyVersion):
            raise ValueError("edge.pages: the files of Fastly's versions are not known; use edge.version")
        return self

    @property
    def lever(self) -> Lever:
        (found,) = (option for option in (self.pointer, self.copied, self.local) if option is not None)
        return found

    @property
    def own_cache(self) -> Purge | None:
        return (
            CloudfrontInvalidation(cloudfront=self.pointer.distribution)
            if isinstance(self.pointer, OriginPath)
            else None
        )

    async def problems(self, world: World) -> list[Problem]:
        """Whether the releases beside a pointer are there, and whether the one that is live is whole."""
        releases, lever = self.releases, self.lever
        if releases is None:
            return []
        live = str(await world.read(lever))
        return await world.ask(lever, lambda aws: releases.problems(aws, live))

    async def draft(self, world: World, target: Target, cache: Purge | None) -> Draft:
        was = await read_expecting(world, self.lever, target)
        to, notes = await value_of(world, self.lever, target)
        files, file_notes = await self._whole(world, target.to_version)
        moves = await emptied(world, target, cache, Move(lever=self.lever, was=was, to=to, every=3.0))
        gate = self.edge.gate(target.to_version, files)
        return Draft(steps=(*moves.steps, gate), notes=(*notes, *file_notes, *moves.notes))

    async def _whole(self, world: World, version: str) -> tuple[dict[str, File], tuple[str, ...]]:
        """The files of the release, all of them there as they were built, and what people should know. Raises Halt."""
        if self.local is not None:
            return await self._whole_here(world, self.local, version)
        holder = self.copied or self.releases
        if holder is None:
            return {}, ()
        return (await world.ask(self.lever, lambda aws: holder.whole(aws, version))).files, ()

    async def _whole_here(
        self, world: World, release: CurrentRelease, version: str
    ) -> tuple[dict[str, File], tuple[str, ...]]:
        where = release.root / release.releases / version
        text = await world.ask(release, lambda local: local.text(where / "manifest.json"))
        if text is None:
            if self.edge.pages:
                raise Halt(f"there is no {where}/manifest.json to compare pages with")
            return {}, (f"nobody can say whether {where} is whole: it has no manifest.json",)
        files = Manifest.read(text, f"{where}/manifest.json").files
        found = await world.ask(release, lambda local: local.digests(where, tuple(files)))
        if wrong := sorted(path for path, file in files.items() if found[path] != file.sha256):
            raise Halt(f"{where} is not what was built: {wrong[0]} is missing or another ({len(wrong)} in all)")
        return files, ()

"""A site goes back to a release that is whole, and nobody believes it before the edge serves it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, Tag, model_validator

from responder.backends.host.release import CurrentRelease
from responder.backends.http.http_check import HttpCheck
from responder.backends.problems import Problem
from responder.backends.resource import Resource
from responder.backends.sites.cloudfront import CloudfrontInvalidation, CloudfrontKey, OriginPath
from responder.backends.sites.fastly import FastlyVersion
from responder.backends.sites.live_prefix import LivePrefix
from responder.backends.sites.pointer_object import PointerObject
from responder.backends.sites.purge import Purge
from responder.backends.sites.releases import File, Manifest, Releases
from responder.config.durations import Duration
from responder.config.unions import union_by_key
from responder.errors import StepFailed
from responder.rollback.gateway import Gateway
from responder.rollback.plan import Change, Gate, StrategyPlan
from responder.rollback.strategies.frontend.platform import Platform, emptied
from responder.rollback.strategies.strategy import read_expecting, value_of
from responder.rollback.version_change import VersionChange

Pointer = Annotated[
    Annotated[CloudfrontKey, Tag("<kvs>")]
    | Annotated[OriginPath, Tag("<origin_path>")]
    | Annotated[PointerObject, Tag("<object>")]
    | Annotated[FastlyVersion, Tag("<fastly>")],
    union_by_key("pointer", "kvs", "origin_path", "object", "fastly"),
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
                raise StepFailed(f"{path} is no file of the release {version}, so {url} cannot be compared with it")
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
    def resource(self) -> Resource:
        (found,) = (option for option in (self.pointer, self.copied, self.local) if option is not None)
        return found

    @property
    def own_cache(self) -> Purge | None:
        return (
            CloudfrontInvalidation(cloudfront=self.pointer.distribution)
            if isinstance(self.pointer, OriginPath)
            else None
        )

    async def problems(self, gateway: Gateway) -> list[Problem]:
        """Whether the releases beside a pointer are there, and whether the one that is live is whole."""
        releases, resource = self.releases, self.resource
        if releases is None:
            return []
        live = str(await gateway.read(resource))
        return await gateway.ask(resource, lambda aws: releases.problems(aws, live))

    async def plan(self, gateway: Gateway, target: VersionChange, cache: Purge | None) -> StrategyPlan:
        before = await read_expecting(gateway, self.resource, target)
        to, notes = await value_of(gateway, self.resource, target)
        files, file_notes = await self._whole(gateway, target.to_version)
        changes = await emptied(
            gateway, target, cache, Change(resource=self.resource, before=before, after=to, every=3.0)
        )
        gate = self.edge.gate(target.to_version, files)
        return StrategyPlan(steps=(*changes.steps, gate), notes=(*notes, *file_notes, *changes.notes))

    async def _whole(self, gateway: Gateway, version: str) -> tuple[dict[str, File], tuple[str, ...]]:
        """The files of the release, all of them there as they were built, and what people should know. Raises Halt."""
        if self.local is not None:
            return await self._whole_here(gateway, self.local, version)
        holder = self.copied or self.releases
        if holder is None:
            return {}, ()
        return (await gateway.ask(self.resource, lambda aws: holder.whole(aws, version))).files, ()

    async def _whole_here(
        self, gateway: Gateway, release: CurrentRelease, version: str
    ) -> tuple[dict[str, File], tuple[str, ...]]:
        where = release.root / release.releases / version
        text = await gateway.ask(release, lambda local: local.text(where / "manifest.json"))
        if text is None:
            if self.edge.pages:
                raise StepFailed(f"there is no {where}/manifest.json to compare pages with")
            return {}, (f"nobody can say whether {where} is whole: it has no manifest.json",)
        files = Manifest.read(text, f"{where}/manifest.json").files
        found = await gateway.ask(release, lambda local: local.digests(where, tuple(files)))
        if wrong := sorted(path for path, file in files.items() if found[path] != file.sha256):
            raise StepFailed(f"{where} is not what was built: {wrong[0]} is missing or another ({len(wrong)} in all)")
        return files, ()

"""The platform `web`: a site returns to a complete release, and a gate checks what the edge serves."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, HttpUrl, Tag, model_validator

from foundation.durations import Duration
from foundation.models import StrictModel
from responder.backends.host.release import CurrentRelease
from responder.backends.http.http_check import HttpCheck
from responder.backends.problems import Problem
from responder.backends.resource import Resource
from responder.backends.sites.cloudfront import CloudfrontInvalidation, CloudfrontKey, OriginPath
from responder.backends.sites.fastly import FastlyVersion
from responder.backends.sites.live_prefix import LivePrefix
from responder.backends.sites.pointer_object import PointerObject
from responder.backends.sites.purge import Purge
from responder.backends.sites.releases import File, ReleaseManifest, Releases, stored_unlike
from responder.config.text import counted
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


class Edge(StrictModel):
    """What visitors get. Use URLs in more than one location if possible."""

    version: tuple[HttpUrl, ...] = Field(default=(), description="URLs of JSON documents with the version")
    field: str = Field(default="version", description="Field with the version; dots for nested fields")
    pages: dict[HttpUrl, str] = Field(
        default_factory=dict,
        description="Release file that each page must equal, such as {https://shop.example/: index.html}",
    )
    hold_for: Duration = Field(default=5.0, description="Time that all of them must hold")
    within: Duration = Field(default=300.0, gt=0, description="Deadline until all of them hold")

    @model_validator(mode="after")
    def _has_urls(self) -> Edge:
        if not self.version and not self.pages:
            raise ValueError("needs at least one URL in version or pages, to check what users get")
        return self

    def gate(self, version: str, files: dict[str, File]) -> Gate:
        """Returns the gate for a version. Raises StepFailed if a page is not a file of the release."""
        checks = [HttpCheck(http=url, fields={self.field: version}, every_address=True) for url in self.version]
        for url, path in self.pages.items():
            if path not in files:
                raise StepFailed(f"{path} is not a file of release {version}, so {url} cannot be compared with it")
            checks.append(HttpCheck(http=url, sha256=files[path].sha256, every_address=True))
        name = f"edge serves {version}"
        return Gate(name=name, checks=tuple(checks), hold_for=self.hold_for, within=self.within)


class WebPlatform(Platform):
    """Switches a pointer, copies a release in S3, or switches a link on this host."""

    pointer: Pointer | None = Field(default=None, description="Pointer to the release that is served")
    copied: LivePrefix | None = Field(default=None, alias="copy", description="S3 prefix to copy a release to")
    local: CurrentRelease | None = Field(default=None, description="Directory of releases with a `current` link")
    releases: Releases | None = Field(default=None, description="Releases in S3, for a pointer")
    edge: Edge = Field(description="Live version as visitors see it")

    @model_validator(mode="after")
    def _fits_together(self) -> WebPlatform:
        if sum(option is not None for option in (self.pointer, self.copied, self.local)) != 1:
            raise ValueError("needs exactly one of pointer, copy, local")
        in_s3 = isinstance(self.pointer, CloudfrontKey | OriginPath | PointerObject)
        if in_s3 and self.releases is None:
            raise ValueError("releases: is missing, so it could not be checked whether the good release is complete")
        if not in_s3 and self.releases is not None:
            raise ValueError("releases: belongs to a pointer in AWS; copy and local have their own")
        if self.edge.pages and isinstance(self.pointer, FastlyVersion):
            raise ValueError("edge.pages: the files of a Fastly version are unknown; use edge.version")
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
        """Returns problems of the releases of a pointer, and of the live one."""
        releases, resource = self.releases, self.resource
        if releases is None:
            return []
        live = str(await gateway.read(resource))
        return await gateway.ask(resource, lambda aws: releases.problems(aws, live))

    async def plan(self, gateway: Gateway, target: VersionChange, cache: Purge | None) -> StrategyPlan:
        before = await read_expecting(gateway, self.resource, target)
        to, notes = await value_of(gateway, self.resource, target)
        files, file_notes = await self._complete(gateway, target.to_version)
        file_notes += await self._stored_unlike(gateway, target, list(files))
        changes = await emptied(
            gateway, target, cache, Change(resource=self.resource, before=before, after=to, every=3.0)
        )
        gate = self.edge.gate(target.to_version, files)
        return StrategyPlan(steps=(*changes.steps, gate), notes=(*notes, *file_notes, *changes.notes))

    async def _complete(self, gateway: Gateway, version: str) -> tuple[dict[str, File], tuple[str, ...]]:
        """Returns the files of a complete release, and notes. Raises StepFailed if it differs from its build."""
        if self.local is not None:
            return await self._complete_on_host(gateway, self.local, version)
        holder = self.copied or self.releases
        if holder is None:
            return {}, ()
        return (await gateway.ask(self.resource, lambda aws: holder.complete(aws, version))).files, ()

    async def _stored_unlike(self, gateway: Gateway, target: VersionChange, files: list[str]) -> tuple[str, ...]:
        """Returns notes about files in S3 that browsers would treat unlike those of the live release."""
        releases = self.copied.releases if self.copied else self.releases
        if releases is None:
            return ()
        good, live = (releases.location(version) for version in (target.to_version, target.from_version))
        try:
            return await gateway.ask(self.resource, lambda aws: stored_unlike(aws, good, live, files))
        except StepFailed as failure:
            return (f"it is unknown whether the files are stored with the right types: {failure}",)

    async def _complete_on_host(
        self, gateway: Gateway, release: CurrentRelease, version: str
    ) -> tuple[dict[str, File], tuple[str, ...]]:
        directory = release.root / release.releases / version
        text = await gateway.ask(release, lambda local: local.text(directory / "manifest.json"))
        if text is None:
            if self.edge.pages:
                raise StepFailed(f"{directory}/manifest.json does not exist, so pages cannot be compared")
            return {}, (f"{directory} has no manifest.json, so it is unknown whether it is complete",)
        files = ReleaseManifest.read(text, f"{directory}/manifest.json").files
        found = await gateway.ask(release, lambda local: local.digests(directory, tuple(files)))
        if wrong := sorted(path for path, file in files.items() if found[path] != file.sha256):
            count = counted(len(wrong), "file")
            raise StepFailed(f"{directory} differs from its build: {wrong[0]} is missing or different ({count})")

        return files, ()

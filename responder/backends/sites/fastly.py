"""The active version of a Fastly service, and its cache."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue

from responder.backends.problems import Problem
from responder.backends.resource import Resource
from responder.backends.sites.cdn_client import Fastly
from responder.backends.sites.purge import RememberedPurge
from responder.errors import StepFailed

_ID = r"^[0-9A-Za-z]+$"


class FastlyVersion(Resource[Fastly, JsonValue]):
    """The number of the active version of a service. The comment of a version names its release."""

    resource: Literal["fastly_version"] = "fastly_version"
    fastly: str = Field(pattern=_ID, description="ID of the service; the comment of each version is the release")

    async def read(self, fastly: Fastly) -> JsonValue:
        return next((version["number"] for version in await self._versions(fastly) if version["active"]), None)

    async def write(self, fastly: Fastly, value: JsonValue, *, expected: JsonValue) -> None:
        self.must_be(found := await self.read(fastly), expected, value)
        if found != value:
            await fastly.write("PUT", f"/service/{self.fastly}/version/{value}/activate")

    async def value_of(self, fastly: Fastly, version: str, artifact: str) -> JsonValue:
        named = [
            candidate["number"] for candidate in await self._versions(fastly) if candidate.get("comment") == version
        ]
        if not named:
            raise StepFailed(f"no version of Fastly service {self.fastly} has the comment {version!r}")
        return int(max(named))

    async def runs(self, fastly: Fastly, found: JsonValue, version: str, artifact: str) -> bool:
        return any(
            candidate["number"] == found and candidate.get("comment") == version
            for candidate in await self._versions(fastly)
        )

    async def _versions(self, fastly: Fastly) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = await fastly.read(f"/service/{self.fastly}/version")
        return found

    async def check_access(self, fastly: Fastly) -> list[Problem]:
        versions = await self._versions(fastly)
        live = next((version for version in versions if version["active"]), None)
        if live is None:
            return [Problem(str(self), "no version is active", "activate the version that users should get")]
        if not live.get("comment"):
            found = f"version {live['number']} has no comment, so its release is unknown"
            return [Problem(str(self), found, "write the release into the comment of each version")]
        if reason := await fastly.activation_refused(self.fastly):
            return [
                Problem(str(self), f"the token cannot activate versions: {reason}", "use a token with scope global")
            ]
        return []

    async def preflight(self, fastly: Fastly, value: JsonValue) -> tuple[str, ...]:
        if reason := await fastly.activation_refused(self.fastly):
            raise StepFailed(f"the Fastly token cannot activate versions of {self.fastly}: {reason}")
        found = await fastly.read(f"/service/{self.fastly}/version/{value}/validate")
        if found.get("status") != "ok":
            raise StepFailed(f"Fastly finds version {value} of {self.fastly} invalid: {found.get('msg') or found}")
        return ()

    def describe(self, value: JsonValue) -> str:
        return "none" if value is None else f"number {value}"

    def __str__(self) -> str:
        return f"active version of Fastly service {self.fastly}"


class FastlyPurge(RememberedPurge[Fastly]):
    """A soft purge by surrogate keys, or a purge of everything without keys."""

    resource: Literal["fastly_purge"] = "fastly_purge"
    fastly: str = Field(pattern=_ID, description="ID of the service")
    keys: tuple[Annotated[str, Field(pattern="^[!-~]{1,1024}$")], ...] = Field(
        default=(), max_length=256, description="Surrogate keys; stale content is served while it is refreshed"
    )

    @property
    def _scope(self) -> JsonValue:
        return [self.fastly, *sorted(self.keys)]

    async def _purge(self, client: Fastly) -> None:
        if self.keys:
            body = {"surrogate_keys": sorted(self.keys)}
            await client.write("POST", f"/service/{self.fastly}/purge", body, {"Fastly-Soft-Purge": "1"})
        else:
            await client.write("POST", f"/service/{self.fastly}/purge_all")

    async def check_access(self, client: Fastly) -> list[Problem]:
        await self.preflight(client, None)
        return []

    async def preflight(self, client: Fastly, value: JsonValue) -> tuple[str, ...]:
        if reason := await client.purge_refused(self.fastly, "purge_select" if self.keys else "purge_all"):
            raise StepFailed(f"the Fastly token cannot purge {self.fastly}: {reason}")
        return ()

    @property
    def _name(self) -> str:
        return f"cache of Fastly service {self.fastly}"

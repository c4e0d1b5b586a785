"""Which version of a Fastly service is active, and what Fastly holds of it."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, JsonValue

from responder.clients.cdn import Fastly
from responder.errors import Halt
from responder.levers.lever import Lever
from responder.levers.web.purge import RememberedPurge
from responder.problems import Problem

_ID = r"^[0-9A-Za-z]+$"


class FastlyVersion(Lever):
    """The active version of a service, by Fastly's number. Which release a number is, its comment says."""

    client: ClassVar[type] = Fastly

    lever: Literal["fastly_version"] = "fastly_version"
    fastly: str = Field(pattern=_ID, description="Id of the service; the comment of each version is the release")

    async def read(self, fastly: Fastly) -> JsonValue:
        return next((version["number"] for version in await self._versions(fastly) if version["active"]), None)

    async def write(self, fastly: Fastly, value: JsonValue, *, was: JsonValue) -> None:
        self.must_be(found := await self.read(fastly), was, value)
        if found != value:
            await fastly.write("PUT", f"/service/{self.fastly}/version/{value}/activate")

    async def value_of(self, fastly: Fastly, version: str, artifact: str) -> JsonValue:
        named = [
            candidate["number"] for candidate in await self._versions(fastly) if candidate.get("comment") == version
        ]
        if not named:
            raise Halt(f"no version of Fastly's service {self.fastly} has the comment {version!r}")
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
            return [Problem(str(self), "no version is active", "activate the one that users should get")]
        if not live.get("comment"):
            found = f"version {live['number']} has no comment, so nobody knows which release it is"
            return [Problem(str(self), found, "write the release into the comment of each version")]
        return []

    def tell(self, value: JsonValue) -> str:
        return "none" if value is None else f"number {value}"

    def __str__(self) -> str:
        return f"active version of Fastly's service {self.fastly}"


class FastlyPurge(RememberedPurge):
    """What Fastly holds under surrogate keys, marked as stale; without keys all of it goes."""

    client: ClassVar[type] = Fastly

    lever: Literal["fastly_purge"] = "fastly_purge"
    fastly: str = Field(pattern=_ID, description="Id of the service")
    keys: tuple[str, ...] = Field(
        default=(), max_length=256, description="Surrogate keys, purged softly: stale is served while it is fetched"
    )

    @property
    def _what(self) -> JsonValue:
        return [self.fastly, *sorted(self.keys)]

    async def _purge(self, client: Fastly) -> None:
        if self.keys:
            body = {"surrogate_keys": sorted(self.keys)}
            await client.write("POST", f"/service/{self.fastly}/purge", body, {"Fastly-Soft-Purge": "1"})
        else:
            await client.write("POST", f"/service/{self.fastly}/purge_all")

    async def check_access(self, client: Fastly) -> list[Problem]:
        await self.prepare(client, None)
        return []

    async def prepare(self, client: Fastly, value: JsonValue) -> tuple[str, ...]:
        if reason := await client.purge_refused(self.fastly):
            raise Halt(f"the token of Fastly cannot purge {self.fastly}: {reason}")
        return ()

    @property
    def _name(self) -> str:
        return f"cache of Fastly's service {self.fastly}"

"""The cache of a Cloudflare zone."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue, model_validator

from foundation.durations import Duration
from responder.backends.problems import Problem
from responder.backends.sites.cdn_client import Cloudflare
from responder.backends.sites.purge import RememberedPurge
from responder.errors import StepFailed


class CloudflarePurge(RememberedPurge[Cloudflare]):
    """A purge of one zone: everything, or by prefixes, tags or files."""

    resource: Literal["cloudflare_purge"] = "cloudflare_purge"
    cloudflare: str = Field(pattern="^[0-9a-f]{32}$", description="Zone ID")
    prefixes: tuple[str, ...] = Field(default=(), max_length=30, description="URL prefixes, such as shop.example/app")
    tags: tuple[str, ...] = Field(default=(), max_length=30, description="Cache-Tags")
    files: tuple[str, ...] = Field(default=(), max_length=30, description="Complete URLs")
    within: Duration = Field(default=60.0, gt=0, description="Deadline, including waits for the rate limit")

    @model_validator(mode="after")
    def _has_one_scope(self) -> CloudflarePurge:
        if sum(map(bool, (self.prefixes, self.tags, self.files))) > 1:
            raise ValueError("prefixes, tags, files: set only one of them")
        return self

    @property
    def timeout(self) -> float:
        return self.within

    @property
    def _scope(self) -> JsonValue:
        return [self.cloudflare, self._body()]

    def _body(self) -> dict[str, JsonValue]:
        for name in ("prefixes", "tags", "files"):
            if values := getattr(self, name):
                return {name: sorted(values)}
        return {"purge_everything": True}

    async def _purge(self, client: Cloudflare) -> None:
        await client.write("POST", f"/zones/{self.cloudflare}/purge_cache", self._body())

    async def check_access(self, client: Cloudflare) -> list[Problem]:
        await self.preflight(client, None)
        if not await client.knows_zone(self.cloudflare):
            await client.verify_token()
        return []

    async def preflight(self, client: Cloudflare, value: JsonValue) -> tuple[str, ...]:
        if await client.knows_zone(self.cloudflare) is False:
            raise StepFailed(f"Cloudflare has no zone {self.cloudflare}: correct its ID")
        return ()

    @property
    def _name(self) -> str:
        return f"cache of Cloudflare zone {self.cloudflare[:8]}"

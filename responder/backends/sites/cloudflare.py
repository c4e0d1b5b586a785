"""The cache of a Cloudflare zone."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, JsonValue, model_validator

from foundation.durations import Duration
from responder.backends.problems import Problem
from responder.backends.sites.cdn_client import Cloudflare
from responder.backends.sites.purge import RememberedPurge
from responder.errors import StepFailed

_ACCEPTED = (
    (
        "prefixes",
        r"[^\s:/?#*]+\.[^\s:/?#*]+(/[^\s?#*/]*){0,31}",
        "a host and at most 31 path segments without *, such as shop.example/app",
    ),
    ("files", r"https?://[^\s/]+/[^\s#]*", "a complete URL, such as https://shop.example/app.js"),
    ("tags", r"[!-+\--~]{1,1024}", "at most 1024 ASCII characters without spaces and commas"),
)
"""What Cloudflare accepts: the option, the pattern of its values and their description."""


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
        for name, pattern, expected in _ACCEPTED:
            if wrong := [value for value in getattr(self, name) if not re.fullmatch(pattern, value)]:
                raise ValueError(f"{name}: {wrong[0][:80]!r}: expected {expected}")
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
        if reason := await client.purge_refused(self.cloudflare):
            fix = "give the token the permission Zone / Cache Purge / Purge"
            return [Problem(str(self), f"may not be purged: {reason}", fix)]
        return []

    async def preflight(self, client: Cloudflare, value: JsonValue) -> tuple[str, ...]:
        if await client.knows_zone(self.cloudflare) is False:
            raise StepFailed(f"Cloudflare has no zone {self.cloudflare}: correct its ID")
        return ()

    @property
    def _name(self) -> str:
        return f"cache of Cloudflare zone {self.cloudflare[:8]}"

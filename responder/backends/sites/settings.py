"""Configuration of CDNs other than Amazon CloudFront."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from responder.backends.sites.cdn_client import CloudflareSettings, FastlySettings


class CdnSettings(BaseModel):
    """CDNs whose caches are purged or whose versions are activated. CloudFront uses `aws`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cloudflare: CloudflareSettings | None = Field(default=None, description="For sites behind Cloudflare")
    fastly: FastlySettings | None = Field(default=None, description="For sites on Fastly")

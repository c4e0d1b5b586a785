"""Configuration of CDNs other than Amazon CloudFront."""

from __future__ import annotations

from pydantic import Field

from foundation.models import StrictModel
from responder.backends.sites.cdn_client import CloudflareSettings, FastlySettings


class CdnSettings(StrictModel):
    """CDNs whose caches are purged or whose versions are activated. CloudFront uses `aws`."""

    cloudflare: CloudflareSettings | None = Field(default=None, description="Access to Cloudflare")
    fastly: FastlySettings | None = Field(default=None, description="Access to Fastly")

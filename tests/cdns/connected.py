"""Connects the responder's clients to the stand-ins."""

from __future__ import annotations

import json
from typing import Any

from pydantic import SecretStr

from responder.backends.sites.cdn_client import CloudflareSettings, FastlySettings
from responder.transport.aws import AwsSettings
from tests.cdns.others import TOKEN
from tests.cdns.signatures import KEY_ID, SECRET


def aws_settings(url: str, **more: Any) -> AwsSettings:
    settings = {"access_key_id": KEY_ID, "secret_access_key": SECRET, "timeout": "5s", "connections": 8}
    return AwsSettings.model_validate_json(json.dumps({"endpoint_url": url, **settings, **more}))


def cloudflare_settings(url: str) -> CloudflareSettings:
    return CloudflareSettings(token=SecretStr(TOKEN), url=url)  # type: ignore[arg-type]


def fastly_settings(url: str) -> FastlySettings:
    return FastlySettings(token=SecretStr(TOKEN), url=url)  # type: ignore[arg-type]

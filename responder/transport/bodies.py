"""Bodies of HTTP answers, read so that a status counts whatever its body is."""

from __future__ import annotations

import json
from typing import Any

import aiohttp


async def body_of(response: aiohttp.ClientResponse) -> bytes:
    """The whole body. Of a failure the status is known, also where the body does not arrive: then it is empty."""
    try:
        return await response.read()
    except aiohttp.ClientPayloadError:
        if response.status < 300:
            raise
        return b""


def json_object(body: bytes | str) -> dict[str, Any]:
    """The JSON object that a body is; empty where it is anything else."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}

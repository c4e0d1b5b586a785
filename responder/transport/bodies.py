"""Bodies of HTTP answers. The status of a failure counts whatever its body is."""

from __future__ import annotations

import json
from typing import Any

import aiohttp

LONGEST = 64 << 20
"""Bytes of an answer that are read at most."""


async def body_of(response: aiohttp.ClientResponse, longest: int = LONGEST) -> bytes:
    """Returns the body; empty if the body of a failure does not arrive. Raises aiohttp.ClientError."""
    body = bytearray()
    try:
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > longest:
                raise aiohttp.ClientPayloadError(f"answered {response.status} with more than {longest >> 20} MiB")
    except aiohttp.ClientPayloadError:
        if response.status < 300:
            raise
        return b""
    return bytes(body)


def json_object(body: bytes | str) -> dict[str, Any]:
    """Returns the JSON object in a body; empty if the body is anything else."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}

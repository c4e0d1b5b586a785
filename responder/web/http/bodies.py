"""Reads request bodies with a deadline and a size limit, after authentication."""

from __future__ import annotations

import asyncio
import zlib
from typing import Any
from urllib.parse import parse_qsl

import aiohttp
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from foundation.configuration.yaml_document import path_text
from responder.config.text import readable
from responder.errors import Invalid

MOST_BYTES = 4 << 20
"""Limit of a body, compressed and decompressed. Alertmanager needs about 800 bytes per alert."""

READ_WITHIN = 5.0
"""Seconds until the whole body must have arrived."""

MOST_MEMBERS = 16
"""Streams in one gzip body. Each costs time even if it is empty."""

_CONTINUE = "100-continue"
_OFF_THE_LOOP = 1 << 16
_HUNG_UP = (ConnectionError, web.RequestPayloadError, aiohttp.ClientPayloadError, HttpProcessingError)


async def await_body(request: web.Request) -> None:
    """Handles `Expect`. `body_of` requests the body later, after authentication."""
    if request.headers.get("Expect", "").lower() != _CONTINUE:
        raise web.HTTPExpectationFailed(text=f"Expect: only {_CONTINUE} is supported")


async def body_of(request: web.Request, within: float = READ_WITHIN) -> bytes:
    """The decompressed body. Raises HTTP errors, and Invalid for damaged gzip data."""
    packed = _is_packed(request)
    if (request.content_length or 0) > MOST_BYTES:
        raise _too_large()
    try:
        async with asyncio.timeout(within):
            if "Expect" in request.headers:
                await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                request.writer.output_size = 0  # the answer itself has not started
            body = await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout(text=f"the body did not arrive within {within:g} s") from None
    except _HUNG_UP:
        raise web.HTTPBadRequest(text="the connection closed before the whole body arrived") from None
    if not packed:
        return body
    return unpacked(body) if len(body) < _OFF_THE_LOOP else await asyncio.to_thread(unpacked, body)


def _is_packed(request: web.Request) -> bool:
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise web.HTTPUnsupportedMediaType(
            text=f"Content-Encoding {encoding[:40]!r} is not supported: use gzip or none"
        )
    return encoding.endswith("gzip")


def _too_large() -> web.HTTPRequestEntityTooLarge:
    return web.HTTPRequestEntityTooLarge(MOST_BYTES, text=f"the body is larger than {MOST_BYTES} bytes")


def unpacked(body: bytes) -> bytes:
    """The decompressed gzip data. Decompresses at most MOST_BYTES."""
    out, members = bytearray(), 0
    while body:
        members += 1
        if members > MOST_MEMBERS:
            raise Invalid(f"more than {MOST_MEMBERS} gzip streams in one body", "body")
        inflater = zlib.decompressobj(16 + zlib.MAX_WBITS)
        try:
            out += inflater.decompress(body, MOST_BYTES + 1 - len(out))
        except zlib.error as e:
            raise Invalid(f"the gzip data is damaged: {e}", "body") from None
        if len(out) > MOST_BYTES:
            raise _too_large()
        if not inflater.eof:
            raise Invalid("the gzip data ends too early", "body")
        body = inflater.unused_data
    return bytes(out)


async def form_of(request: web.Request) -> dict[str, str]:
    """The fields of an HTML form."""
    try:
        form = dict(parse_qsl((await body_of(request)).decode(errors="replace"), max_num_fields=100))
    except ValueError:
        raise Invalid("more than 100 fields", "body") from None
    must_be_text(form)
    return form


def must_be_text(value: Any, *path: int | str) -> None:
    """Raises Invalid with the path of a text that databases cannot store: with NUL or a lone surrogate."""
    if isinstance(value, str):
        if readable(value) != value:
            raise Invalid("must be text without NUL characters and lone surrogates", path_text(path) or "body")
    elif isinstance(value, dict):
        for name, item in value.items():
            must_be_text(name, *path)
            must_be_text(item, *path, name)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            must_be_text(item, *path, index)

"""One HTTP exchange on its own connection.

A session of aiohttp would do the same in twice the CPU time, most of it for cookies, pools, proxies and tracing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from time import perf_counter

from aiohttp import StreamReader
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError, RawResponseMessage
from yarl import URL

from exporters.clients.connections import Connections
from exporters.clients.phases import Phases
from exporters.clients.tls import Tls
from exporters.errors import Failed

DEFAULTS = {
    "Accept": "*/*",
    "Accept-Encoding": "identity",
    "User-Agent": "rollback-responder-exporters",
    "Connection": "close",
}
NO_BODY = {"GET", "HEAD", "OPTIONS", "TRACE"}


@asynccontextmanager
async def exchange(
    connections: Connections,
    method: str,
    url: URL,
    headers: Mapping[str, str],
    body: bytes | None,
    tls: Tls,
    spent: Phases,
) -> AsyncIterator[tuple[RawResponseMessage, StreamReader]]:
    """Yields the head of the response and its uncompressed body, and closes the connection at the end of the block.

    Raises Failed as `Connections.connect`, or with reason `protocol`, and aiohttp.ClientError or OSError.
    """
    secured = tls if url.scheme == "https" else None
    make = partial(ResponseHandler, asyncio.get_running_loop())
    transport, protocol = await connections.connect(make, url.raw_host or "", url.port or 0, spent, secured)
    began = perf_counter()
    try:
        protocol.set_response_params(skip_payload=method == "HEAD", read_until_eof=True)
        transport.write(_request(method, url, headers, body))
        try:
            response, content = await protocol.read()
            while 100 <= response.code < 200 and response.code != 101:  # the final response follows
                response, content = await protocol.read()
        except HttpProcessingError as error:
            raise Failed("the exchange failed: the answer is not HTTP", reason="protocol") from error
        finally:
            spent.processing += perf_counter() - began
        yield response, content
    finally:
        transport.abort()


def _request(method: str, url: URL, headers: Mapping[str, str], body: bytes | None) -> bytes:
    defaults = {"Host": url.host_port_subcomponent, **DEFAULTS}
    if body is not None:
        defaults["Content-Type"] = "application/octet-stream"
    if body is not None or method not in NO_BODY:
        defaults["Content-Length"] = str(len(body or b""))
    given = {name.lower() for name in headers}
    lines = [f"{name}: {value}" for name, value in defaults.items() if name.lower() not in given]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([f"{method} {url.raw_path_qs} HTTP/1.1", *lines, "", ""]).encode() + (body or b"")

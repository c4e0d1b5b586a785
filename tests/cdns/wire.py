"""A request and an answer without a socket, and a server for them on one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from aiohttp import web
from aiohttp.test_utils import TestServer


@dataclass
class Request:
    method: str
    target: str  # as received: path and query, encoded
    headers: dict[str, str]  # names in lower case
    body: bytes

    @classmethod
    def of(cls, method: str, target: str, headers: dict[str, Any], body: bytes) -> Request:
        lowered = {k.lower(): v.decode() if isinstance(v, bytes) else str(v) for k, v in headers.items()}
        return cls(method, target, lowered, body)

    @cached_property
    def path(self) -> str:
        return unquote(urlsplit(self.target).path)

    @cached_property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))


@dataclass
class Response:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


class Refusal(Exception):
    def __init__(self, status: int, code: str, message: str = "") -> None:
        super().__init__(code)
        self.status, self.code, self.message = status, code, message or code


@asynccontextmanager
async def serving(
    answer: Callable[[Request], Response], pause: Callable[[Request], float] = lambda request: 0.0
) -> AsyncIterator[str]:
    """Yields the base URL. `pause`: seconds before each answer."""

    async def handle(request: web.Request) -> web.Response:
        headers = {name: ",".join(request.headers.getall(name)) for name in request.headers}
        received = Request.of(request.method, request.raw_path, headers, await request.read())
        response = answer(received)
        await asyncio.sleep(pause(received))
        return web.Response(status=response.status, body=response.body, headers=response.headers)

    app = web.Application(client_max_size=64 << 20)
    app.router.add_route("*", "/{rest:.*}", handle)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")

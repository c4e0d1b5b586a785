"""The listener's connections: who says nothing, or only half a request, makes way for everybody else."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import ssl
from collections.abc import Callable
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from responder.web.access import Handler

HEADERS_WITHIN = 10.0
"""Seconds for the whole head of a request to arrive, and for the handshake of TLS."""

MOST_OF_ONE_PEER = 512
"""Open connections of one address; one more ends the oldest of them that waits for a request."""

MOST = 1536
"""Open connections of all addresses together."""


def allow_many_files() -> None:
    """Raises the soft limit of descriptors to the hard one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Open:
    """All open connections, the oldest first."""

    def __init__(self, ended: Callable[[str], None]) -> None:
        self.ended = ended
        self._open: dict[Connection, None] = {}
        self._peers: dict[str, dict[Connection, None]] = {}

    def add(self, new: Connection) -> None:
        """Makes room for a new one. Where all that are open carry a request, the new one is ended."""
        mine = self._peers.setdefault(new.peer, {})
        self._open[new] = mine[new] = None
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = min(MOST, max(soft // 2, 16))  # the other half is for files, databases and the outside
        for some, limit in ((mine, min(MOST_OF_ONE_PEER, most)), (self._open, most)):
            if len(some) > limit:
                self.end(next((one for one in some if not one.busy and one is not new), new), "too_many")

    def end(self, one: Connection, cause: str) -> None:
        """Ends one now, and counts why."""
        self.ended(cause)
        self.remove(one)
        if one.transport is not None:
            one.transport.abort()

    def remove(self, one: Connection) -> None:
        """Forgets one that has ended."""
        self._open.pop(one, None)
        mine = self._peers.get(one.peer, {})
        mine.pop(one, None)
        if not mine:
            self._peers.pop(one.peer, None)


class Connection(web.RequestHandler):
    """One connection, with a deadline for the head of each request."""

    __slots__ = ("__weakref__", "_deadline", "_seen", "busy", "peer")

    def __init__(self, seen: Open, manager: web.Server, **how: Any) -> None:
        super().__init__(manager, **how)
        self._seen, self.busy, self.peer = seen, 0, ""
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As Protocol.connection_made."""
        super().connection_made(transport)
        name = transport.get_extra_info("peername")
        self.peer = str(name[0]) if isinstance(name, tuple) else ""
        self._await_head()
        self._seen.add(self)

    def data_received(self, data: bytes) -> None:
        """As Protocol.data_received."""
        if not self.busy and self._deadline is None:
            self._await_head()
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        """As Protocol.connection_lost."""
        self.head_arrived()
        self._seen.remove(self)
        super().connection_lost(exc)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """What strangers can cause at will is counted, never logged with a traceback."""
        cause = kw.get("exc_info")
        if isinstance(cause, HttpProcessingError):
            self._seen.ended("malformed")
        elif isinstance(cause, ConnectionError | web.RequestPayloadError):
            self._seen.ended("hang_up")
        else:
            super().log_exception(*args, **kw)

    def head_arrived(self) -> None:
        """Ends the deadline."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _await_head(self) -> None:
        self._deadline = asyncio.get_running_loop().call_later(HEADERS_WITHIN, self._seen.end, self, "headers")


@web.middleware
async def under_way(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Tells the connection that its request has arrived, and when it is answered."""
    connection = request.protocol
    if not isinstance(connection, Connection):
        return await handler(request)
    connection.head_arrived()
    connection.busy += 1
    try:
        return await handler(request)
    finally:
        connection.busy -= 1


class Site(web.BaseSite):
    """Listens on an address, and hands its connections to the runner."""

    def __init__(
        self,
        runner: web.AppRunner,
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
        ended: Callable[[str], None],
        **how: Any,
    ) -> None:
        super().__init__(runner, ssl_context=tls, backlog=512)
        self._address, self._how, self._open = (host, port), how, Open(ended)

    @property
    def name(self) -> str:
        """As BaseSite.name."""
        return f"{'https' if self._ssl_context else 'http'}://{self._address[0]}:{self._address[1]}"

    async def start(self) -> None:
        """As BaseSite.start."""
        await super().start()
        loop, manager = asyncio.get_running_loop(), self._runner.server
        assert manager is not None  # noqa: S101 - BaseSite has asked that
        self._server = await loop.create_server(
            lambda: Connection(self._open, manager, loop=loop, **self._how),
            *self._address,
            ssl=self._ssl_context,
            backlog=self._backlog,
            ssl_handshake_timeout=HEADERS_WITHIN if self._ssl_context else None,
        )

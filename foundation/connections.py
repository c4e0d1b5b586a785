"""An HTTP listener with limits: idle and incomplete connections make room for new ones."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import ssl
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Literal, TypeAlias, get_args

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from foundation.handshake import Handshake

Cause: TypeAlias = Literal["too_many", "headers", "tls", "malformed", "hang_up"]
"""Why a connection was closed early."""

CAUSES: tuple[Cause, ...] = get_args(Cause)

HEADERS_WITHIN = 10.0
"""Seconds for the complete head of a request to arrive, and for the TLS handshake."""

MOST_OF_ONE_PEER = 512
"""Open connections of one address. One more closes the oldest of them that waits for a request."""

MOST = 1536
"""Open connections of all addresses together."""

RESERVED = 16
"""Extra connections while all others carry a request. They serve only health checks."""

HEALTH = frozenset({"/-/healthy", "/-/ready"})


def allow_many_files() -> None:
    """Raises the soft limit of descriptors to the hard one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Open:
    """All open connections, the oldest first."""

    def __init__(self, ended: Callable[[Cause], None], room_for: Callable[[], int]) -> None:
        self.ended, self._room_for = ended, room_for
        self._open: dict[Connection | Handshake, None] = {}
        self._peers: dict[str, dict[Connection | Handshake, None]] = {}

    def add(self, new: Connection | Handshake) -> None:
        """Adds a connection and makes room for it. If all others carry a request, it serves only health checks."""
        of_peer = self._peers.setdefault(new.peer, {})
        self._open[new] = of_peer[new] = None
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        more = self._room_for()
        most = min(MOST + more, max(soft // 2, 16))  # the other half is for files, databases and outgoing connections
        for candidates, limit in ((of_peer, min(MOST_OF_ONE_PEER + more, most)), (self._open, most)):
            if len(candidates) <= limit or new not in self._open:
                continue
            if spare := _least_needed(candidates, but=new):
                self.end(spare, "too_many")
            elif sum(spare.reserved for spare in self._open) < RESERVED:
                new.reserved = True
            else:
                self.end(new, "too_many")

    def end(self, connection: Connection | Handshake, cause: Cause) -> None:
        """Closes a connection now, and counts the cause."""
        self.ended(cause)
        self.remove(connection)
        if connection.transport is not None:
            connection.transport.abort()

    def remove(self, connection: Connection | Handshake) -> bool:
        """Removes a closed connection. Returns whether it was registered."""
        of_peer = self._peers.get(connection.peer, {})
        of_peer.pop(connection, None)
        if not of_peer:
            self._peers.pop(connection.peer, None)
        return self._open.pop(connection, self) is None

    def end_handshakes(self) -> None:
        """Cancels the handshakes, which the server does not know yet."""
        for connection in [connection for connection in self._open if isinstance(connection, Handshake)]:
            connection.end()


def _least_needed(candidates: Iterable[Connection | Handshake], *, but: object) -> Connection | Handshake | None:
    """The oldest connection without any request, else the oldest one that waits for its next request."""
    idle = [connection for connection in candidates if not connection.busy and connection is not but]
    return next((connection for connection in idle if not connection.served), idle[0] if idle else None)


class Connection(web.RequestHandler):
    """One connection, with a deadline for the head of each request."""

    __slots__ = ("__weakref__", "_deadline", "_early", "_registry", "busy", "peer", "reserved", "served")

    def __init__(self, registry: Open, manager: web.Server, **options: Any) -> None:
        super().__init__(manager, **options)
        self._registry, self.busy, self.peer, self.reserved, self.served = registry, 0, "", False, False
        self._deadline: asyncio.TimerHandle | None = None
        self._early = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See Protocol.connection_made."""
        super().connection_made(transport)
        name = transport.get_extra_info("peername")
        self.peer = str(name[0]) if isinstance(name, tuple) else ""
        self._await_head()
        self._registry.add(self)
        if self._early:
            super().data_received(self._early)

    def data_received(self, data: bytes) -> None:
        """See Protocol.data_received. Bytes that arrive with the end of a handshake are kept until it completes."""
        if self.transport is None:
            self._early += data
            return
        if not self.busy and self._deadline is None:
            self._await_head()
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        """See Protocol.connection_lost."""
        self.head_arrived()
        self._registry.remove(self)
        super().connection_lost(exc)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Counts errors that any client can cause, instead of logging a traceback."""
        cause = kw.get("exc_info")
        if isinstance(cause, HttpProcessingError):
            self._registry.ended("malformed")
        elif isinstance(cause, ConnectionError | web.RequestPayloadError):
            self._registry.ended("hang_up")
        else:
            super().log_exception(*args, **kw)

    def head_arrived(self) -> None:
        """Cancels the deadline of the request head."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _await_head(self) -> None:
        self._deadline = asyncio.get_running_loop().call_later(HEADERS_WITHIN, self._registry.end, self, "headers")


@web.middleware
async def under_way(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Marks the connection as busy while its request is handled. Must be the outermost middleware."""
    connection = request.protocol
    if not isinstance(connection, Connection):
        return await handler(request)
    connection.head_arrived()
    connection.busy += 1
    connection.served = True
    try:
        if connection.reserved and request.path not in HEALTH:
            return _overloaded()
        return await handler(request)
    finally:
        connection.busy -= 1


def _overloaded() -> web.Response:
    why = "too many requests; only health checks are answered now"
    response = web.json_response({"error": why}, status=503, headers={"Retry-After": "5"})
    response.force_close()
    return response


class Site(web.BaseSite):
    """Listens on an address, and passes its connections to the runner.

    `ended` is called with the cause of each connection that is closed early. `room_for` returns how many connections
    known clients need on top of the limits.
    """

    def __init__(
        self,
        runner: web.AppRunner,
        host: str,
        port: int,
        tls: ssl.SSLContext | None = None,
        ended: Callable[[Cause], None] = lambda cause: None,
        room_for: Callable[[], int] = lambda: 0,
        **options: Any,
    ) -> None:
        super().__init__(runner, ssl_context=tls, backlog=1024)
        self._address, self._options, self._open = (host, port), options, Open(ended, room_for)

    @property
    def name(self) -> str:
        """See BaseSite.name."""
        return f"{'https' if self._ssl_context else 'http'}://{self._address[0]}:{self._address[1]}"

    async def start(self) -> None:
        """See BaseSite.start."""
        await super().start()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, *self._address, backlog=self._backlog)

    async def stop(self) -> None:
        """See BaseSite.stop."""
        await super().stop()
        self._open.end_handshakes()

    def _accept(self) -> asyncio.Protocol:
        manager = self._runner.server
        assert manager is not None  # noqa: S101 - checked by BaseSite
        connection = Connection(self._open, manager, loop=asyncio.get_running_loop(), **self._options)
        if self._ssl_context is None:
            return connection
        return Handshake(self._open, connection, self._ssl_context, within=HEADERS_WITHIN)

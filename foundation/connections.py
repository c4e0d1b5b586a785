"""A listener whose connections cannot hold each other up: who says nothing, or only half a request, makes way."""

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
"""Why a connection was ended early."""

CAUSES: tuple[Cause, ...] = get_args(Cause)

HEADERS_WITHIN = 10.0
"""Seconds for the whole head of a request to arrive, and for the handshake of TLS."""

MOST_OF_ONE_PEER = 512
"""Open connections of one address; one more ends the oldest of them that waits for a request."""

MOST = 1536
"""Open connections of all addresses together."""

RESERVED = 16
"""Connections beyond that, where all that are open carry a request: they serve health checks alone."""

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
        """Makes room for a new one. Where all that are open carry a request, the new one serves health checks."""
        of_peer = self._peers.setdefault(new.peer, {})
        self._open[new] = of_peer[new] = None
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        more = self._room_for()
        most = min(MOST + more, max(soft // 2, 16))  # the other half is for files, databases and the outside
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
        """Ends one now, and counts why."""
        self.ended(cause)
        self.remove(connection)
        if connection.transport is not None:
            connection.transport.abort()

    def remove(self, connection: Connection | Handshake) -> bool:
        """Forgets one that has ended; whether it was open until now."""
        of_peer = self._peers.get(connection.peer, {})
        of_peer.pop(connection, None)
        if not of_peer:
            self._peers.pop(connection.peer, None)
        return self._open.pop(connection, self) is None

    def end_handshakes(self) -> None:
        """Ends those of which the server does not know yet."""
        for connection in [connection for connection in self._open if isinstance(connection, Handshake)]:
            connection.end()


def _least_needed(candidates: Iterable[Connection | Handshake], *, but: object) -> Connection | Handshake | None:
    """The oldest one that never brought a request, else the oldest one that waits for its next request."""
    idle = [connection for connection in candidates if not connection.busy and connection is not but]
    return next((connection for connection in idle if not connection.served), idle[0] if idle else None)


class Connection(web.RequestHandler):
    """One connection, with a deadline for the head of each request."""

    __slots__ = ("__weakref__", "_deadline", "_early", "_registry", "busy", "peer", "reserved", "served")

    def __init__(self, registry: Open, manager: web.Server, **how: Any) -> None:
        super().__init__(manager, **how)
        self._registry, self.busy, self.peer, self.reserved, self.served = registry, 0, "", False, False
        self._deadline: asyncio.TimerHandle | None = None
        self._early = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As Protocol.connection_made."""
        super().connection_made(transport)
        name = transport.get_extra_info("peername")
        self.peer = str(name[0]) if isinstance(name, tuple) else ""
        self._await_head()
        self._registry.add(self)
        if self._early:
            super().data_received(self._early)

    def data_received(self, data: bytes) -> None:
        """As Protocol.data_received; also what came together with the end of a handshake."""
        if self.transport is None:
            self._early += data
            return
        if not self.busy and self._deadline is None:
            self._await_head()
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        """As Protocol.connection_lost."""
        self.head_arrived()
        self._registry.remove(self)
        super().connection_lost(exc)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """What strangers can cause at will is counted, never logged with a traceback."""
        cause = kw.get("exc_info")
        if isinstance(cause, HttpProcessingError):
            self._registry.ended("malformed")
        elif isinstance(cause, ConnectionError | web.RequestPayloadError):
            self._registry.ended("hang_up")
        else:
            super().log_exception(*args, **kw)

    def head_arrived(self) -> None:
        """Ends the deadline."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _await_head(self) -> None:
        self._deadline = asyncio.get_running_loop().call_later(HEADERS_WITHIN, self._registry.end, self, "headers")


@web.middleware
async def under_way(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Tells the connection that its request has arrived, and when it is answered. To be the outermost middleware."""
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
    why = "too many requests are under way; only health checks are answered now"
    answer = web.json_response({"error": why}, status=503, headers={"Retry-After": "5"})
    answer.force_close()
    return answer


class Site(web.BaseSite):
    """Listens on an address, and hands its connections to the runner.

    `ended` is told why each connection was ended early. `room_for` says how many connections clients that are known
    need beyond what anybody may have.
    """

    def __init__(
        self,
        runner: web.AppRunner,
        host: str,
        port: int,
        tls: ssl.SSLContext | None = None,
        ended: Callable[[Cause], None] = lambda cause: None,
        room_for: Callable[[], int] = lambda: 0,
        **how: Any,
    ) -> None:
        super().__init__(runner, ssl_context=tls, backlog=1024)
        self._address, self._how, self._open = (host, port), how, Open(ended, room_for)

    @property
    def name(self) -> str:
        """As BaseSite.name."""
        return f"{'https' if self._ssl_context else 'http'}://{self._address[0]}:{self._address[1]}"

    async def start(self) -> None:
        """As BaseSite.start."""
        await super().start()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, *self._address, backlog=self._backlog)

    async def stop(self) -> None:
        """As BaseSite.stop."""
        await super().stop()
        self._open.end_handshakes()

    def _accept(self) -> asyncio.Protocol:
        manager = self._runner.server
        assert manager is not None  # noqa: S101 - BaseSite has asked that
        connection = Connection(self._open, manager, loop=asyncio.get_running_loop(), **self._how)
        if self._ssl_context is None:
            return connection
        return Handshake(self._open, connection, self._ssl_context, within=HEADERS_WITHIN)

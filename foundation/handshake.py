"""TLS handshakes of new connections, with a deadline. Handshakes count as connections."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, Protocol


class _Registry(Protocol):
    def add(self, new: Any) -> None: ...

    def remove(self, connection: Any) -> bool: ...

    def ended(self, cause: Any) -> None: ...


class Handshake(asyncio.Protocol):
    """Runs the TLS handshake of a new connection, then passes the connection on.

    The listener of asyncio reports a connection after its handshake, so handshakes that never end could not be limited.
    """

    busy, served, reserved = 0, False, False

    def __init__(
        self, registry: _Registry, connection: asyncio.Protocol, context: ssl.SSLContext, *, within: float
    ) -> None:
        self.transport: asyncio.Transport | None = None
        self.peer = ""
        self._registry, self._connection, self._context, self._within = registry, connection, context, within
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See Protocol.connection_made."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - of a listener for streams
        transport.pause_reading()  # the first bytes are for TLS
        self.transport, name = transport, transport.get_extra_info("peername")
        self.peer = str(name[0]) if isinstance(name, tuple) else ""
        self._registry.add(self)
        self._task = asyncio.get_running_loop().create_task(self._agree(transport))

    def end(self) -> None:
        """Cancels the handshake."""
        if self._task is not None:
            self._task.cancel()

    async def _agree(self, transport: asyncio.Transport) -> None:
        secured, failed = None, False
        try:
            secured = await asyncio.get_running_loop().start_tls(
                transport, self._connection, self._context, server_side=True, ssl_handshake_timeout=self._within
            )
        except (ConnectionResetError, BrokenPipeError):
            pass  # the peer disconnected, as port probes do
        except OSError:  # not TLS, no common version, no client certificate, or the deadline has passed
            failed = True
        finally:
            was_open = self._registry.remove(self)
            if secured is None:
                transport.abort()
        if secured is not None:
            self._connection.connection_made(secured)
        elif was_open and failed:
            self._registry.ended("tls")

"""Connections of the probes of one configuration, and what they share. A reload replaces all of them."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import perf_counter
from typing import TypeVar

from aiohappyeyeballs import AddrInfoType, start_connection

from exporters.clients.databases import Session, describe_error
from exporters.clients.phases import Phases
from exporters.clients.tls import Tls, context
from exporters.errors import Failed, Unable, raise_if_local

P = TypeVar("P", bound=asyncio.BaseProtocol)

NEXT_ADDRESS_AFTER = 0.25  # seconds, as RFC 8305 recommends: an address that hangs does not fail the probe


class Connections:
    """TLS contexts, name lookups, and database sessions that are kept between probes. Needs a running event loop.

    Every HTTP and TCP probe makes its own connection. A kept one would not show that new ones are refused.
    """

    def __init__(self, redact: Callable[[str], str]) -> None:
        self.redact = redact
        self.closed = False
        self._lookups = Lookups()
        self._contexts: dict[Tls, ssl.SSLContext] = {}
        self._kept: dict[str, Session] = {}
        self._probes: dict[str, int] = {}

    async def connect(
        self, make: Callable[[], P], host: str, port: int, spent: Phases, tls: Tls | None = None
    ) -> tuple[asyncio.Transport, P]:
        """Returns a new connection with the protocol from `make`, and adds its phases to `spent`.

        Raises Failed, reason `resolve`, `connect` or `tls`, or Unable.
        """
        secured = self._context(tls) if tls else None
        addresses = await self._addresses(host, port, spent)
        began = perf_counter()
        try:
            sock = await start_connection(addresses, happy_eyeballs_delay=NEXT_ADDRESS_AFTER)
        except OSError as error:
            raise_if_local(error)
            raise Failed(f"cannot connect: {describe_error(error)}", reason="connect") from error
        finally:
            spent.connect += perf_counter() - began
        loop = asyncio.get_running_loop()
        if tls is None:
            return await loop.create_connection(make, sock=sock)
        began = perf_counter()
        name = (tls.server_name or host).rstrip(".")
        try:
            transport, protocol = await loop.create_connection(make, sock=sock, ssl=secured, server_hostname=name)
        except OSError as error:
            raise Failed(f"TLS failed: {describe_error(error)}", reason="tls") from error
        finally:
            spent.tls += perf_counter() - began
        spent.tls_connection = transport.get_extra_info("ssl_object")
        return transport, protocol

    async def _addresses(self, host: str, port: int, spent: Phases) -> Sequence[AddrInfoType]:
        if address := _literal(host, port):
            return [address]
        began = perf_counter()
        try:
            return await self._lookups.addresses(host, port)
        except (OSError, UnicodeError) as error:  # empty and overlong labels fail before the lookup
            raise_if_local(error)
            why = "not a host name" if isinstance(error, UnicodeError) else describe_error(error)
            raise Failed(f"{host} has no address: {why}", reason="resolve") from error
        finally:
            spent.resolve += perf_counter() - began

    def _context(self, tls: Tls) -> ssl.SSLContext:
        if tls not in self._contexts:
            try:
                self._contexts[tls] = context(tls)
            except OSError as error:  # a file changed since the configuration was loaded
                raise Unable(f"the certificates of the check cannot be loaded: {error}") from error
        return self._contexts[tls]

    async def take(self, check_id: str, *, fresh_every: int) -> Session | None:
        """Returns the kept session, which then belongs to the caller. None if the probe needs a new connection."""
        number = self._probes[check_id] = self._probes.get(check_id, -1) + 1
        session = self._kept.pop(check_id, None)
        if session is not None and number % fresh_every == 0:
            await session.close()
            return None
        return session

    async def keep(self, check_id: str, session: Session) -> None:
        """Keeps a working session for the next probe of that check."""
        # Swapped before the first await: two scrapes may call this at once, and no session may be lost.
        other, self._kept[check_id] = self._kept.pop(check_id, None), session
        if other is not None:
            await other.close()

    async def close(self) -> None:
        """Closes the kept sessions, and cancels lookups: probes that wait for one fail."""
        self.closed = True
        for session in self._kept.values():
            await session.drop()
        self._kept.clear()
        self._lookups.cancel()
        await asyncio.sleep(0)  # aborted connections close in the next turn of the event loop


class Lookups:
    """Runs one lookup per name at a time: a name server that hangs occupies one thread per name, not one per probe."""

    def __init__(self) -> None:
        self._running: dict[tuple[str, int], asyncio.Future[Sequence[AddrInfoType]]] = {}

    async def addresses(self, host: str, port: int) -> Sequence[AddrInfoType]:
        """Returns the addresses of a host. Caches nothing. Raises OSError or UnicodeError."""
        key = (host, port)
        lookup = self._running.get(key)
        if lookup is None:
            loop = asyncio.get_running_loop()
            system = loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
            lookup = self._running[key] = asyncio.ensure_future(system)
            lookup.add_done_callback(lambda done: self._forget(key, done))
        return await asyncio.shield(lookup)

    def _forget(self, key: tuple[str, int], done: asyncio.Future[Sequence[AddrInfoType]]) -> None:
        del self._running[key]
        if not done.cancelled():
            done.exception()  # marks it as retrieved: every probe that waited may have been cancelled

    def cancel(self) -> None:
        """Cancels the running lookups."""
        for lookup in list(self._running.values()):
            lookup.cancel()


def _literal(host: str, port: int) -> AddrInfoType | None:
    """Returns the address of a host that is written as an address, which needs no lookup in a thread."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError, ValueError):  # ValueError: characters that no address has
            socket.inet_pton(family, host)
            return family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port)
    return None

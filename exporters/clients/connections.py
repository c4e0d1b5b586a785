"""Connections that the probes of one configuration share. A reload replaces all of them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from time import perf_counter

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from exporters.clients.databases import Session
from exporters.clients.phases import phases
from exporters.clients.tls import Tls, WatchedContext, context


class Connections:
    """One HTTP session, TLS contexts, and database sessions that are kept between probes. Needs a running event loop.

    Every HTTP probe makes and closes its own connection. A kept one would not show that new ones are refused.
    """

    def __init__(self, redact: Callable[[str], str]) -> None:
        self.redact = redact
        self.resolver = CoalescingResolver()
        self._contexts: dict[Tls, WatchedContext] = {}
        self._kept: dict[str, Session] = {}
        self._probes: dict[str, int] = {}
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(_connected)
        self.http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, force_close=True, use_dns_cache=False, resolver=self.resolver, ttl_dns_cache=None
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            trace_configs=[trace],
            headers={"User-Agent": "rollback-responder-exporters", "Accept-Encoding": "identity"},
        )

    def context(self, tls: Tls) -> WatchedContext:
        """Returns the TLS context for these settings, made on first use."""
        if tls not in self._contexts:
            self._contexts[tls] = context(tls)
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
        """Closes everything. Probes that still run fail."""
        for session in self._kept.values():
            await session.drop()
        self._kept.clear()
        await self.http.close()
        await self.resolver.close()


class CoalescingResolver(AbstractResolver):
    """Runs one lookup per name at a time: a name server that hangs occupies one thread per name, not one per probe."""

    def __init__(self) -> None:
        self._system = ThreadedResolver()
        self._running: dict[tuple[str, int, int], asyncio.Task[list[ResolveResult]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """See AbstractResolver.resolve. Caches nothing, and adds its time to the `resolve` phase of the probe."""
        began = perf_counter()
        key = (host, port, family)
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.create_task(self._look_up(host, port, family))
            task.add_done_callback(lambda done: self._forget(key, done))
        try:
            return await asyncio.shield(task)
        finally:
            if (record := phases.get()) is not None:
                record.resolve += perf_counter() - began

    async def _look_up(self, host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
        try:
            return await self._system.resolve(host, port, family)
        except UnicodeError as error:  # empty and overlong labels fail before the lookup
            raise OSError(None, "is not a host name") from error

    def _forget(self, key: tuple[str, int, int], done: asyncio.Task[list[ResolveResult]]) -> None:
        del self._running[key]
        if not done.cancelled():
            done.exception()  # marks it as retrieved: every probe that waited may have been cancelled

    async def close(self) -> None:
        """Cancels the running lookups."""
        for task in list(self._running.values()):
            task.cancel()
        await self._system.close()


async def _connected(*_: object) -> None:
    if (record := phases.get()) is not None:
        record.connected = perf_counter()

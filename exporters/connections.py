"""What the probes of one configuration value share, so that a reload swaps all of it and leaves nothing open."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from time import perf_counter

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from exporters.databases import Session
from exporters.phases import phases
from exporters.tls import Tls, WatchedContext, context


class Connections:
    """One HTTP session, the TLS contexts, and the database sessions that are kept between probes.

    Every HTTP probe makes a connection of its own and closes it: a kept one would not notice that new ones are refused.
    Make and close it inside the event loop.
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
        """The TLS context for these settings, made once."""
        if tls not in self._contexts:
            self._contexts[tls] = context(tls)
        return self._contexts[tls]

    async def take(self, check_id: str, *, fresh_every: int) -> Session | None:
        """The session kept for that check, now the caller's own; None when it is time for a fresh one."""
        turn = self._probes[check_id] = self._probes.get(check_id, -1) + 1
        kept = self._kept.pop(check_id, None)
        if kept is not None and turn % fresh_every == 0:
            await kept.close()
            return None
        return kept

    async def keep(self, check_id: str, session: Session) -> None:
        """Keep a session that works for the next probe of that check."""
        # Swapped before anything is awaited: two scrapes may come here at once, and none may be lost.
        other, self._kept[check_id] = self._kept.pop(check_id, None), session
        if other is not None:
            await other.close()

    async def close(self) -> None:
        """Close everything; probes that still run fail."""
        for session in self._kept.values():
            await session.drop()
        self._kept.clear()
        await self.http.close()
        await self.resolver.close()


class CoalescingResolver(AbstractResolver):
    """Looks each name up once at a time: a name server that hangs holds one thread per name, not one per probe."""

    def __init__(self) -> None:
        self._system = ThreadedResolver()
        self._running: dict[tuple[str, int, int], asyncio.Task[list[ResolveResult]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """As AbstractResolver.resolve; nothing is cached. The time goes to the `resolve` phase of the probe."""
        began = perf_counter()
        key = (host, port, family)
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.create_task(self._looked_up(host, port, family))
            task.add_done_callback(lambda done: self._forget(key, done))
        try:
            return await asyncio.shield(task)
        finally:
            if (record := phases.get()) is not None:
                record.resolve += perf_counter() - began

    async def _looked_up(self, host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
        try:
            return await self._system.resolve(host, port, family)
        except UnicodeError as error:  # empty or overlong labels fail before anyone is asked
            raise OSError(None, "is not a host name") from error

    def _forget(self, key: tuple[str, int, int], done: asyncio.Task[list[ResolveResult]]) -> None:
        del self._running[key]
        if not done.cancelled():
            done.exception()  # all who asked may be gone by now: then nobody else fetches it

    async def close(self) -> None:
        """Give up on the lookups under way."""
        for task in list(self._running.values()):
            task.cancel()
        await self._system.close()


async def _connected(*_: object) -> None:
    if (record := phases.get()) is not None:
        record.connected = perf_counter()

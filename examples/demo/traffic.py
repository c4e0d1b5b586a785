"""Customers: twenty requests per second, with every response counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle
from time import monotonic, time

import aiohttp

A_SECOND = 20
PATIENCE = aiohttp.ClientTimeout(total=5)


@dataclass
class Second:
    """The responses of one second, and the release that served them."""

    good: int = 0
    bad: int = 0
    release: str = ""


@dataclass
class Traffic:
    """All responses so far."""

    seconds: dict[int, Second] = field(default_factory=dict)
    first_answer: dict[str, float] = field(default_factory=dict)  # of each release
    first_bad: float | None = None
    last_bad: float | None = None
    slowest: float = 0.0

    def counted(self, *, since: float = 0.0) -> tuple[int, int]:
        """Returns the good and failed responses since that time."""
        found = [second for at, second in self.seconds.items() if at >= int(since)]
        return sum(s.good for s in found), sum(s.bad for s in found)

    def latest(self, n: int) -> list[Second]:
        """Returns the last whole seconds, including those without a response."""
        now, first = int(time()), min(self.seconds, default=int(time()))
        return [self.seconds.get(at, Second()) for at in range(max(first, now - n), now)]

    def count(self, *, good: bool, release: str, took: float) -> None:
        at = time()
        second = self.seconds.setdefault(int(at), Second())
        second.release = release or second.release
        if release:
            self.first_answer.setdefault(release, at)
        self.slowest = max(self.slowest, took)
        if good:
            second.good += 1
        else:
            second.bad += 1
            self.first_bad = self.first_bad or at
            self.last_bad = at


@asynccontextmanager
async def customers(shop: str) -> AsyncIterator[Traffic]:
    """Half of the requests view the page, half buy."""
    traffic = Traffic()
    connector = aiohttp.TCPConnector(force_close=True, limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=PATIENCE) as session:
        coming = asyncio.create_task(_come(session, f"http://{shop}", traffic))
        try:
            yield traffic
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)


async def _come(session: aiohttp.ClientSession, shop: str, traffic: Traffic) -> None:
    # At a fixed rate, whatever the responses take: customers do not wait for each other.
    async with asyncio.TaskGroup() as here:
        due = monotonic()
        for path in cycle(("/", "/checkout")):
            here.create_task(_ask(session, shop + path, traffic))
            due += 1 / A_SECOND
            await asyncio.sleep(due - monotonic())


async def _ask(session: aiohttp.ClientSession, url: str, traffic: Traffic) -> None:
    began = monotonic()
    try:
        async with session.get(url) as answer:
            await answer.read()
        good, release = answer.status < 500, answer.headers.get("X-Release", "")
    except (aiohttp.ClientError, TimeoutError):
        good, release = False, ""
    traffic.count(good=good, release=release, took=monotonic() - began)

"""The shop's orders in PostgreSQL, written through a connection pool."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

T = TypeVar("T")

TIMEOUT = 0.5
"""Seconds that a checkout waits for a free connection."""


class Orders:
    """A connection pool for threads. A release that leaks connections exhausts it."""

    def __init__(self, dsn: str, password_file: str, size: int, *, release: str, releases_connections: bool) -> None:
        self._release = release
        self._releases_connections = releases_connections
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        password = Path(password_file).read_text().strip()
        self._pool = self._call(_pool(dsn, password, size))

    def use(self) -> bool:
        """Whether an order could be written."""
        try:
            return self._call(self._order())
        except (OSError, TimeoutError, asyncpg.PostgresError):
            return False

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(5)

    async def _order(self) -> bool:
        connection = await self._pool.acquire(timeout=TIMEOUT)
        try:
            await connection.execute("INSERT INTO orders (release) VALUES ($1)", self._release)
        finally:
            if self._releases_connections:  # the bug of 1.1, and of 1.2, which was meant to fix it
                await self._pool.release(connection)
        return True


async def _pool(dsn: str, password: str, size: int) -> Any:
    # Opens no connection yet: a shop that starts before its database already serves its page.
    return await asyncpg.create_pool(dsn, password=password, min_size=0, max_size=size, timeout=2)

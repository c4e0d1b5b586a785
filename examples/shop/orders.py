"""The shop's orders in PostgreSQL, each written over a connection of one pool."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

T = TypeVar("T")

PATIENCE = 0.5
"""Seconds that a checkout waits for a free connection."""


class Orders:
    """A pool for threads. Where a release does not give its connections back, the pool is empty after a while."""

    def __init__(self, dsn: str, password_file: str, size: int, *, release: str, gives_back: bool) -> None:
        self._release = release
        self._gives_back = gives_back
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
        connection = await self._pool.acquire(timeout=PATIENCE)
        try:
            await connection.execute("INSERT INTO orders (release) VALUES ($1)", self._release)
        finally:
            if self._gives_back:  # the bug of 1.1, and of 1.2 that was to mend it
                await self._pool.release(connection)
        return True


async def _pool(dsn: str, password: str, size: int) -> Any:
    # No connection is made yet: a shop that starts before its database is there serves its page meanwhile.
    return await asyncpg.create_pool(dsn, password=password, min_size=0, max_size=size, timeout=2)

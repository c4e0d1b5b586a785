"""A budget that concurrent tasks share, such as bytes of memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Budget:
    """An amount that tasks take shares of, in the order in which they ask."""

    def __init__(self, amount: int) -> None:
        self._amount, self._left = amount, amount
        self._first = asyncio.Lock()
        self._returned = asyncio.Event()

    @asynccontextmanager
    async def share(self, size: int) -> AsyncIterator[None]:
        """Waits until so much is left, and takes it. A larger share than the budget takes all of it."""
        size = min(size, self._amount)
        async with self._first:
            while self._left < size:
                self._returned.clear()
                await self._returned.wait()
            self._left -= size
        try:
            yield
        finally:
            self._left += size
            self._returned.set()

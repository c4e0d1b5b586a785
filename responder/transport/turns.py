"""Turns on the event loop: a task that computes for long lets other tasks run every few milliseconds."""

from __future__ import annotations

import asyncio
import time

LENGTH = 0.002
"""Seconds of one turn."""


class Turn:
    """The time for which a task may compute before it lets others run."""

    def __init__(self) -> None:
        self.number = 0
        self.begin()

    def begin(self) -> None:
        """Begins the next turn."""
        self.number += 1
        self._until = time.perf_counter() + LENGTH

    @property
    def over(self) -> bool:
        """Whether other tasks should run now."""
        return time.perf_counter() >= self._until

    async def pass_on(self) -> None:
        """Lets all other tasks run once if the turn is over."""
        if self.over:
            await asyncio.sleep(0)
            self.begin()

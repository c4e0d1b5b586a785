"""One request serves many callers, but never a caller that began after the request was sent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")

_WAIT = 0.05
"""Seconds that the next request waits at least for the answer to the previous one."""

_TIMES_AS_LONG = 2.0
"""It waits so many times as long as an answer took last. A server that hangs delays nobody longer."""


class SharedAnswers(Generic[T]):
    """Answers to requests, by a key that identifies the request.

    A caller that begins while a request is under way gets the answer to the next one, with all others that begin
    until that is sent. So many callers cost one or two requests per answer time, and none gets an older state than if
    it had asked by itself.
    """

    def __init__(self) -> None:
        self._sent: dict[Hashable, asyncio.Task[T]] = {}
        self._next: dict[Hashable, asyncio.Task[T]] = {}
        self._took: dict[Hashable, float] = {}

    async def get(self, key: Hashable, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer to `ask`, or to the request of another caller with this key. Raises what the request raises."""
        if key not in self._next:
            self._next[key] = asyncio.create_task(self._ask(key, ask), name="shared-request")
            self._next[key].add_done_callback(_retrieved)
        # Shielded: a caller that gives up does not take the answer from the others.
        return await asyncio.shield(self._next[key])

    async def _ask(self, key: Hashable, ask: Callable[[], Awaitable[T]]) -> T:
        clock = asyncio.get_running_loop().time
        if previous := self._sent.get(key):
            await asyncio.wait({previous}, timeout=max(_WAIT, _TIMES_AS_LONG * self._took.get(key, 0.0)))
        self._sent[key] = own = self._next.pop(key)
        began = clock()
        try:
            answer = await ask()
            self._took[key] = clock() - began
            return answer
        finally:
            if self._sent.get(key) is own:
                del self._sent[key]

    async def close(self) -> None:
        """Cancels all requests."""
        tasks = {*self._next.values(), *self._sent.values()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._next.clear()
        self._sent.clear()


def _retrieved(task: asyncio.Task[T]) -> None:
    """Nobody may be left to hear of the error."""
    if not task.cancelled():
        task.exception()

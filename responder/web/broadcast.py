"""Wakes whoever watches a rollback, whichever replica carries it out, at the cost of one short read a second."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Concatenate, ParamSpec, TypeVar

from responder.journal import Database, Transaction, executions
from responder.rollback.events import Event
from responder.rollback.execution import Execution
from responder.transport.background import OnError, run_loop

T = TypeVar("T")
P = ParamSpec("P")

LATELY = timedelta(minutes=5)
"""How far back a rollback is looked for that began and ended between two looks, by clocks that may differ."""


class TooMany(Exception):
    """As many watch as may."""


class Watcher:
    """One who watches one rollback, or all of them. Nothing is kept for it: the journal has what it has not read."""

    def __init__(self, execution: str | None) -> None:
        self.execution = execution
        self.wake = asyncio.Event()
        self.wake.set()  # between what it has read and now something may have happened

    async def changed(self, within: float) -> bool:
        """Waits until something may have happened, or for so many seconds; tells which."""
        try:
            async with asyncio.timeout(within):
                await self.wake.wait()
        except TimeoutError:
            return False
        self.wake.clear()
        return True


class ExecutionBroadcast:
    """Knows how far every rollback has come. It looks only while somebody watches."""

    def __init__(
        self,
        journal: Database,
        *,
        poll: float = 1.0,
        most: int = 64,
        on_error: OnError = lambda loop: None,
    ) -> None:
        self._journal, self._poll, self._most, self._stumbled = journal, poll, most, on_error
        self._watchers: set[Watcher] = set()
        self._looking: asyncio.Task[None] | None = None
        # All who watch take turns at the journal: the rollbacks' own reads and writes never wait for a crowd.
        self._turn = asyncio.Lock()
        self.heads: dict[str, int] = {}
        self.closing = False

    @contextmanager
    def watch(self, execution: str | None) -> Iterator[Watcher]:
        """Raises TooMany."""
        if len(self._watchers) >= self._most or self.closing:
            raise TooMany
        watcher = Watcher(execution)
        self._watchers.add(watcher)
        if self._looking is None:
            self._looking = asyncio.create_task(self._look(), name="feed")
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)
            if not self._watchers and self._looking is not None:
                self._looking.cancel()
                self._looking = None
                self.heads.clear()

    async def read(
        self, act: Callable[Concatenate[Transaction, P], Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """One read at a time for all who watch."""
        async with self._turn:
            return await self._journal.read(act, *args, **kwargs)

    def now(self) -> datetime:
        """The time by the journal's clock."""
        return self._journal.now()

    def happened(self, execution: Execution, events: tuple[Event, ...]) -> None:
        """What this process committed itself is heard at once."""
        if self._watchers:
            self._stir({execution.id: execution.seq})

    def close(self) -> None:
        """Everybody who watches is sent away, as the process ends."""
        self.closing = True
        for watcher in self._watchers:
            watcher.wake.set()

    async def _look(self) -> None:
        with contextlib.closing(self._journal.listen()) as ear:
            await run_loop("progress", self._look_once, every=self._poll, on_error=self._stumbled, wait=ear.changed)

    async def _look_once(self) -> None:
        lately = self._journal.now() - LATELY
        watched = {w.execution for w in self._watchers if w.execution}
        found = await self.read(executions.heads, lately, *(watched | self.heads.keys()))
        self._stir({execution_id: row["seq"] for execution_id, row in found.items()})
        for execution_id, row in found.items():
            if row["ended_at"] and row["ended_at"] < lately:
                self.heads.pop(execution_id, None)

    def _stir(self, found: dict[str, int]) -> None:
        moved = {execution_id for execution_id, seq in found.items() if seq > self.heads.get(execution_id, -1)}
        self.heads.update({execution_id: found[execution_id] for execution_id in moved})
        for watcher in self._watchers:
            if moved and watcher.execution in (None, *moved):
                watcher.wake.set()

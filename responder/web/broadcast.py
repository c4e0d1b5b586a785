"""Wakes the subscribers of a rollback that any replica executes. Costs one short read per second."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Concatenate, ParamSpec, TypeVar

from foundation.waiting import set_within
from responder.journal import Database, Transaction, executions
from responder.rollback.events import Event
from responder.rollback.execution import Execution
from responder.transport.background import OnError, run_loop

T = TypeVar("T")
P = ParamSpec("P")

RECENTLY = timedelta(minutes=5)
"""How far back to look for rollbacks that started and ended between two reads. Clocks of replicas may differ."""


class TooManySubscribers(Exception):
    """The limit of subscribers is reached."""


class EventSubscription:
    """A subscription to one execution (None: to all). Nothing is buffered: missed events are in the journal."""

    def __init__(self, execution: str | None) -> None:
        self.execution = execution
        self.wake = asyncio.Event()
        self.wake.set()  # events may have happened since the last read

    async def changed(self, within: float) -> bool:
        """Waits up to `within` seconds; returns whether events may have happened."""
        if woken := await set_within(self.wake, within):
            self.wake.clear()
        return woken


class ExecutionBroadcast:
    """Knows the last event of every rollback. Reads the journal only while there are subscriptions."""

    def __init__(
        self,
        journal: Database,
        *,
        poll: float = 1.0,
        most: int = 64,
        on_error: OnError = lambda loop: None,
    ) -> None:
        self._journal, self._poll, self._most, self._on_error = journal, poll, most, on_error
        self._subscriptions: set[EventSubscription] = set()
        self._reader: asyncio.Task[None] | None = None
        # Subscribers read one at a time, so that rollbacks do not wait for them.
        self._read_lock = asyncio.Lock()
        self.heads: dict[str, int] = {}
        self.closing = False

    @contextmanager
    def subscribe(self, execution: str | None) -> Iterator[EventSubscription]:
        """Subscribes to one execution, or to all. Raises TooManySubscribers."""
        if len(self._subscriptions) >= self._most or self.closing:
            raise TooManySubscribers
        subscription = EventSubscription(execution)
        self._subscriptions.add(subscription)
        if self._reader is None:
            self._reader = asyncio.create_task(self._run(), name="broadcast")
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
            if not self._subscriptions and self._reader is not None:
                self._reader.cancel()
                self._reader = None
                self.heads.clear()

    async def read(
        self, act: Callable[Concatenate[Transaction, P], Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Reads from the journal, one subscriber at a time."""
        async with self._read_lock:
            return await self._journal.read(act, *args, **kwargs)

    def now(self) -> datetime:
        """The time of the journal."""
        return self._journal.now()

    def happened(self, execution: Execution, events: tuple[Event, ...]) -> None:
        """Wakes the subscribers at once for events that this process committed."""
        if self._subscriptions:
            self._wake({execution.id: execution.seq})

    def close(self) -> None:
        """Ends all subscriptions before the process ends."""
        self.closing = True
        for subscription in self._subscriptions:
            subscription.wake.set()

    async def _run(self) -> None:
        with contextlib.closing(self._journal.listen()) as feed:
            await run_loop("progress", self._read_heads, every=self._poll, on_error=self._on_error, wait=feed.changed)

    async def _read_heads(self) -> None:
        recently = self._journal.now() - RECENTLY
        watched = {w.execution for w in self._subscriptions if w.execution}
        found = await self.read(executions.heads, recently, *(watched | self.heads.keys()))
        self._wake({execution_id: row["seq"] for execution_id, row in found.items()})
        for execution_id, row in found.items():
            if row["ended_at"] and row["ended_at"] < recently:
                self.heads.pop(execution_id, None)

    def _wake(self, heads: dict[str, int]) -> None:
        advanced = {execution_id for execution_id, seq in heads.items() if seq > self.heads.get(execution_id, -1)}
        self.heads.update({execution_id: heads[execution_id] for execution_id in advanced})
        for subscription in self._subscriptions:
            if advanced and subscription.execution in (None, *advanced):
                subscription.wake.set()

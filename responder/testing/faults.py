"""Fault injection: crashes and interference at any call to an outside system or to the journal."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from responder.backends.connections import Connections
from responder.errors import LeaseLost
from responder.journal import Database
from responder.rollback.events import Event
from responder.rollback.execution import Execution
from responder.services import rollbacks


class Crash(BaseException):
    """The process has died. No code catches it, and nothing is cleaned up."""


@dataclass
class Point:
    """Counts the calls, and acts at one of them.

    `at`: the number of the call, from 0; None: never. `after`: once the call has had its effect, instead of before.
    `act`: what happens; None: a crash.
    """

    at: int | None = None
    after: bool = False
    act: Callable[[], Awaitable[None]] | None = None
    seen: int = 0
    names: list[str] = field(default_factory=list)

    async def around(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        """Makes the call."""
        mine, self.seen = self.seen == self.at, self.seen + 1
        self.names.append(name)
        if mine and not self.after:
            await self._happen()
        try:
            return await call()
        finally:  # a call that raises may have had its effect as well
            if mine and self.after:
                await self._happen()

    async def _happen(self) -> None:
        if self.act is None:
            raise Crash
        await self.act()


class Effects:
    """Counts the calls that changed the outside, over all crashes and workers of one rollback."""

    def __init__(self, state: Callable[[], Any]) -> None:
        self.writes = 0
        self._state = state

    async def counted(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Makes the call."""
        before = self._state()
        try:
            return await call()
        finally:
            self.writes += self._state() != before


class WatchedConnections(Connections):
    """These clients. Each call of a coroutine method passes through the point, and counts if it changed something."""

    def __init__(self, clients: Mapping[type[Any], Any], point: Point, effects: Effects) -> None:
        super().__init__()
        self._clients = {kind: _WatchedClient(client, point, effects) for kind, client in clients.items()}

    async def to(self, kind: Any) -> Any:
        return self._clients[kind]


class _WatchedClient:
    def __init__(self, client: Any, point: Point, effects: Effects) -> None:
        self._client, self._point, self._effects = client, point, effects

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if not inspect.iscoroutinefunction(method):
            return method

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await self._point.around(name, lambda: self._effects.counted(lambda: method(*args, **kwargs)))

        return call


class FaultyRecord:
    """Commits events to the journal as this worker. Each commit passes through the point."""

    def __init__(self, journal: Database, worker: str, point: Point) -> None:
        self._journal, self._worker, self._point = journal, worker, point

    async def append(self, execution: Execution, *events: Event) -> Execution:
        """As `Record.append`."""

        async def write() -> Execution:
            return await self._journal.transaction(rollbacks.append, execution, events, self._worker)

        result: Execution = await self._point.around("append", write)
        return result


def lapsed() -> None:
    """The guard of a worker whose lease has expired."""
    raise LeaseLost("the lease has expired")

"""The one door to the outside: whatever is read, written or asked goes through here, with a deadline and retries."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, ClassVar, Protocol, TypeVar

from pydantic import JsonValue

from responder.checks import Finding, GateCheck, PromqlCheck
from responder.clients import Connections, acting
from responder.clients.prometheus import Prometheus
from responder.durations import format_duration
from responder.errors import Halt, Unavailable, Unseen
from responder.levers.lever import Lever
from responder.problems import Problem

T = TypeVar("T")


class Accessible(Protocol):
    """A lever, a check or a log source."""

    client: ClassVar[type[Any]]

    async def check_access(self, client: Any) -> list[Problem]: ...


class World:
    """Reads and writes levers, and asks checks.

    `guard` is called by the clients right before everything that changes something: it raises `Superseded` where this
    process may no longer act. A process that was paused for longer than its lease finds out there, before it does harm.
    `saw` is told what every check found, for people who watch.
    """

    def __init__(
        self,
        connections: Connections,
        *,
        guard: Callable[[], None] = lambda: None,
        saw: Callable[[GateCheck, Finding], None] = lambda check, finding: None,
        retry_every: float = 1.0,
    ) -> None:
        self._connections = connections
        self._guard, self._saw = guard, saw
        self._retry_every = retry_every

    async def read(self, lever: Lever) -> JsonValue:
        """The lever's value now. Raises `Halt` where it cannot be had within the deadline."""

        async def once(client: Any) -> JsonValue:
            return await lever.read(client)

        return await self._insist(f"reading the {lever}", lever, once, lever.reads_within)

    async def write(self, lever: Lever, value: JsonValue, *, was: JsonValue) -> None:
        """Sets the lever. Tried again while the other side is unavailable: writing twice is writing once."""

        async def once(client: Any) -> None:
            await lever.write(client, value, was=was)

        with self._acting():
            await self._insist(f"setting the {lever}", lever, once)

    async def settled(self, lever: Lever, value: JsonValue) -> bool:
        async def look(client: Any) -> bool:
            return await lever.settled(client, value)

        return await self._insist(f"watching the {lever}", lever, look, lever.reads_within)

    async def nudge(self, lever: Lever, value: JsonValue) -> None:
        """Lets the lever help the world along; it may write."""

        async def once(client: Any) -> None:
            await lever.nudge(client, value)

        with self._acting():
            await self._insist(f"following the {lever}", lever, once)

    async def ask(self, lever: Lever, question: Callable[[Any], Awaitable[T]]) -> T:
        """Puts a question about the lever to its client, with the lever's patience. It changes nothing."""
        return await self._insist(f"looking at the {lever}", lever, question)

    async def check_access(self, target: Accessible, *, title: str = "", within: float) -> list[Problem]:
        """What keeps a rollback from using it, under that title.

        A target that is unavailable is asked a second time, then reported.
        """
        try:
            async with asyncio.timeout(within):
                try:
                    return await target.check_access(await self._connections.to(target.client))
                except Unavailable:
                    await asyncio.sleep(self._retry_every)
                    return await target.check_access(await self._connections.to(target.client))
        except TimeoutError:
            return [Problem(title or str(target), f"did not answer within {format_duration(within)}")]
        except (Halt, Unavailable) as e:
            return [Problem(title or str(target), str(e))]

    async def moved_by(self, lever: Lever) -> str:
        """Who set it last; empty where nobody says so, for whatever reason."""
        try:
            return await lever.moved_by(await self._connections.to(lever.client))
        except (Unavailable, Halt):
            return ""

    async def holds(self, check: GateCheck) -> Finding:
        """One look, without retries: a gate looks again by itself. No answer does not hold."""
        try:
            client: Any = await self._connections.to(check.client)
            finding: Finding = await check.holds(client)
        except (Unavailable, Halt) as e:
            finding = Finding(holds=False, answered=False, reason=str(e))
        self._saw(check, finding)
        return finding

    async def held(self, check: PromqlCheck, at: datetime) -> Finding:
        """The same look at an earlier time, of which Prometheus keeps books."""
        try:
            return await check.holds(await self._connections.to(Prometheus), at)
        except (Unavailable, Halt) as e:
            return Finding(holds=False, reason=str(e))

    @contextmanager
    def _acting(self) -> Iterator[None]:
        token = acting.set(self._guard)
        try:
            yield
        finally:
            acting.reset(token)

    async def _insist(
        self, doing: str, lever: Lever, act: Callable[[Any], Awaitable[T]], within: float | None = None
    ) -> T:
        last, pause = "no answer", self._retry_every
        within = lever.patience if within is None else within
        try:
            async with asyncio.timeout(within):
                while True:
                    try:
                        return await act(await self._connections.to(lever.client))
                    except Unavailable as e:
                        last, pause = str(e), max(self._retry_every, e.retry_after)
                    await asyncio.sleep(pause)
        except TimeoutError:
            raise Unseen(f"{doing} did not succeed within {within:g} s: {last}") from None

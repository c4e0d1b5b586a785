"""The one door to the outside: whatever is read, written or asked goes through here, with a deadline and retries."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar

from pydantic import JsonValue

from responder.backends.accessible import Accessible
from responder.backends.capabilities import Assisted, Attributed, Converges, Preflight, Versioned
from responder.backends.check import Finding
from responder.backends.connections import Connections
from responder.backends.problems import Problem
from responder.backends.prometheus.client import Prometheus
from responder.backends.prometheus.promql_check import PromqlCheck
from responder.backends.registries import GateCheck
from responder.backends.resource import Resource
from responder.config.durations import format_duration
from responder.errors import Inconclusive, StepFailed, Unavailable
from responder.transport.acting import acting

T = TypeVar("T")


class Gateway:
    """Reads and writes resources, and asks checks.

    `guard` is called by the clients right before everything that changes something: it raises `LeaseLost` where this
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

    async def read(self, resource: Resource) -> JsonValue:
        """The resource's value now. Raises `Halt` where it cannot be had within the deadline."""

        async def once(client: Any) -> JsonValue:
            value: JsonValue = await resource.read(client)
            return value

        return await self._insist(f"reading the {resource}", resource, once, resource.read_timeout)

    async def write(self, resource: Resource, value: JsonValue, *, expected: JsonValue) -> None:
        """Sets the resource. Tried again while the other side is unavailable: writing twice is writing once."""

        async def once(client: Any) -> None:
            await resource.write(client, value, expected=expected)

        with self._acting():
            await self._insist(f"setting the {resource}", resource, once)

    async def converged(self, resource: Resource, value: JsonValue) -> bool:
        """Whether the outside system has caught up with this value. Raises StepFailed if it never will."""

        async def check(client: Any) -> bool:
            if isinstance(resource, Converges):
                return await resource.converged(client, value)
            return resource.same(await resource.read(client), value)

        return await self._insist(f"watching the {resource}", resource, check, resource.read_timeout)

    async def assist(self, resource: Resource, value: JsonValue) -> None:
        """Helps the outside system to converge; this may write."""
        if not isinstance(resource, Assisted):
            return

        async def once(client: Any) -> None:
            await resource.assist(client, value)

        with self._acting():
            await self._insist(f"following the {resource}", resource, once)

    async def value_of(self, resource: Resource, version: str, artifact: str) -> JsonValue:
        """The value for a version of the service. Raises StepFailed if it is no longer available."""
        if not isinstance(resource, Versioned):
            return version
        value: JsonValue = await self.ask(resource, lambda client: resource.value_of(client, version, artifact))
        return value

    async def runs(self, resource: Resource, found: JsonValue, version: str, artifact: str) -> bool:
        """Whether a value that was found is this version of the service."""
        if not isinstance(resource, Versioned):
            return found == version
        return await self.ask(resource, lambda client: resource.runs(client, found, version, artifact))

    async def preflight(self, resource: Resource, value: JsonValue) -> tuple[str, ...]:
        """Notes for people. Raises StepFailed if the value cannot be set. Changes nothing."""
        if not isinstance(resource, Preflight):
            return ()
        return await self.ask(resource, lambda client: resource.preflight(client, value))

    async def ask(self, resource: Resource, question: Callable[[Any], Awaitable[T]]) -> T:
        """Puts a question about the resource to its client, with the resource's patience. It changes nothing."""
        return await self._insist(f"looking at the {resource}", resource, question)

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
        except (StepFailed, Unavailable) as e:
            return [Problem(title or str(target), str(e))]

    async def last_modified_by(self, resource: Resource) -> str:
        """The author of the last change; empty if unknown, for whatever reason."""
        if not isinstance(resource, Attributed):
            return ""
        try:
            return await resource.last_modified_by(await self._connections.to(resource.client))
        except (Unavailable, StepFailed):
            return ""

    async def holds(self, check: GateCheck) -> Finding:
        """One look, without retries: a gate looks again by itself. No answer does not hold."""
        try:
            client: Any = await self._connections.to(check.client)
            finding: Finding = await check.holds(client)
        except (Unavailable, StepFailed) as e:
            finding = Finding(holds=False, answered=False, reason=str(e))
        self._saw(check, finding)
        return finding

    async def held(self, check: PromqlCheck, at: datetime) -> Finding:
        """The same look at an earlier time, of which Prometheus keeps books."""
        try:
            return await check.holds(await self._connections.to(Prometheus), at)
        except (Unavailable, StepFailed) as e:
            return Finding(holds=False, reason=str(e))

    @contextmanager
    def _acting(self) -> Iterator[None]:
        token = acting.set(self._guard)
        try:
            yield
        finally:
            acting.reset(token)

    async def _insist(
        self, doing: str, resource: Resource, act: Callable[[Any], Awaitable[T]], within: float | None = None
    ) -> T:
        last, pause = "no answer", self._retry_every
        within = resource.timeout if within is None else within
        try:
            async with asyncio.timeout(within):
                while True:
                    try:
                        return await act(await self._connections.to(resource.client))
                    except Unavailable as e:
                        last, pause = str(e), max(self._retry_every, e.retry_after)
                    await asyncio.sleep(pause)
        except TimeoutError:
            raise Inconclusive(f"{doing} did not succeed within {within:g} s: {last}") from None

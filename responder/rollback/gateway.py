"""The only access to external systems: reads, writes and checks, each with a deadline and retries."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar

from pydantic import JsonValue

from foundation.durations import format_duration
from responder.backends.accessible import Accessible
from responder.backends.capabilities import Assisted, Attributed, Converges, Observable, Preflight, Versioned
from responder.backends.check import Finding
from responder.backends.connections import Connections
from responder.backends.problems import Problem
from responder.backends.prometheus.client import Prometheus
from responder.backends.prometheus.promql_check import PromqlCheck
from responder.backends.registries import GateCheck
from responder.backends.resource import Resource
from responder.errors import Inconclusive, Outdated, StepFailed, Unavailable
from responder.transport.acting import acting

T = TypeVar("T")

_AT_ONCE = 0.05
"""Seconds until something outdated is read again; each later pause is twice as long."""


class Gateway:
    """Reads and writes resources, and evaluates checks.

    `guard`: called by the clients right before every change. It raises LeaseLost if this process may no longer act, as
    after a pause longer than its lease. `saw`: called with every finding, for watchers.
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
        """The resource's value now. Raises Inconclusive if it cannot be read within the deadline."""

        async def once(client: Any) -> JsonValue:
            value: JsonValue = await resource.read(client)
            return value

        return await self._insist(f"reading the {resource}", resource, once, resource.read_timeout)

    async def write(self, resource: Resource, value: JsonValue, *, expected: JsonValue) -> None:
        """Sets the resource. Retries while the system is unavailable; a repeated write has no further effect."""

        async def once(client: Any) -> None:
            await resource.write(client, value, expected=expected)

        with self._acting():
            await self._insist(f"setting the {resource}", resource, once)

    async def converged(self, resource: Resource, value: JsonValue) -> bool:
        """Whether the external system has converged to this value. Raises StepFailed if it never will."""

        async def check(client: Any) -> bool:
            if isinstance(resource, Converges):
                return await resource.converged(client, value)
            return resource.same(await resource.read(client), value)

        return await self._insist(f"waiting for the {resource}", resource, check, resource.read_timeout)

    async def assist(self, resource: Resource, value: JsonValue) -> None:
        """Helps the external system to converge; this may write."""
        if not isinstance(resource, Assisted):
            return

        async def once(client: Any) -> None:
            await resource.assist(client, value)

        with self._acting():
            await self._insist(f"assisting the {resource}", resource, once)

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

    async def version_of(self, resource: Resource, found: JsonValue) -> tuple[str, str]:
        """The version and the artifact of a value that was found; empty if the value does not show them."""
        if isinstance(resource, Observable):
            return await self.ask(resource, lambda client: resource.version_of(client, found))
        return (found, "") if isinstance(found, str) and not isinstance(resource, Versioned) else ("", "")

    async def preflight(self, resource: Resource, value: JsonValue) -> tuple[str, ...]:
        """Notes for people. Raises StepFailed if the value cannot be set. Changes nothing."""
        if not isinstance(resource, Preflight):
            return ()
        return await self.ask(resource, lambda client: resource.preflight(client, value))

    async def ask(self, resource: Resource, question: Callable[[Any], Awaitable[T]]) -> T:
        """The answer of the resource's client, within the resource's timeout. Changes nothing."""
        return await self._insist(f"inspecting the {resource}", resource, question)

    async def check_access(self, target: Accessible, *, title: str = "", within: float) -> list[Problem]:
        """Every problem that prevents a rollback from using the target, under that title.

        `within`: seconds. An unavailable target is tried a second time, then reported.
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
        """The author of the last change; empty if it cannot be determined."""
        if not isinstance(resource, Attributed):
            return ""
        try:
            return await resource.last_modified_by(await self._connections.to(resource.client))
        except (Unavailable, StepFailed):
            return ""

    async def holds(self, check: GateCheck) -> Finding:
        """Evaluates the check once, without retries: a gate repeats it. A check that does not answer does not hold."""
        try:
            client: Any = await self._connections.to(check.client)
            finding: Finding = await check.holds(client)
        except (Unavailable, StepFailed) as e:
            finding = Finding(holds=False, answered=False, reason=str(e))
        self._saw(check, finding)
        return finding

    async def held_at(self, check: PromqlCheck, at: datetime) -> Finding:
        """The result of the check at an earlier time."""
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
        last, pause, at_once = "no answer", self._retry_every, _AT_ONCE
        within = resource.timeout if within is None else within
        try:
            async with asyncio.timeout(within):
                while True:
                    try:
                        return await act(await self._connections.to(resource.client))
                    except Unavailable as e:
                        last, pause = str(e), max(self._retry_every, e.retry_after)
                        if e.retry_after >= within:
                            raise Inconclusive(f"{doing} failed, and is not repeated: {last}") from None
                        if isinstance(e, Outdated):
                            pause, at_once = min(pause, at_once), at_once * 2
                    await asyncio.sleep(pause)
        except TimeoutError:
            raise Inconclusive(f"{doing} timed out after {within:g} s: {last}") from None

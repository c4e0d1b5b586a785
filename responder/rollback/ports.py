"""The dependencies of an execution: the journal, the gateway, the stop signal, the planner, and time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from responder.rollback.events import Event, EvidenceCollected
from responder.rollback.execution import Execution
from responder.rollback.gateway import Gateway
from responder.rollback.plan import Plan


class Record(Protocol):
    """Commits events."""

    async def append(self, execution: Execution, *events: Event) -> Execution:
        """The execution after these events. Raises LeaseLost if another worker wrote first."""


class StopRequest(NamedTuple):
    """Who or what requests a stop, and why. `guard` as in the event StopRequested."""

    by: str
    reason: str
    guard: bool = False


class StopSignal(Protocol):
    """Stops a rollback cooperatively, at its next safe point."""

    async def requested(self, execution: Execution, *, about_to_act: bool) -> StopRequest | None:
        """The stop request; None to continue. `about_to_act`: also check the live alert state."""

    async def pause(self, seconds: float) -> None:
        """Waits, but returns early on a stop request."""


async def keep_nothing(execution: Execution) -> EvidenceCollected | None:
    """Keeps no evidence."""
    return None


PlanFor = Callable[[Execution], Awaitable[Plan]]
"""The plan of an execution. Raises StepFailed if there is none."""

KeepEvidence = Callable[[Execution], Awaitable[EvidenceCollected | None]]
"""Keeps evidence in bounded time and never raises because of it; None if nothing is to be kept."""


class Interrupted(Exception):
    """A stop was requested while a step was waiting. The executor determines who it was and records it."""


@dataclass(frozen=True, kw_only=True)
class Ports:
    """The dependencies of one execution. The executor itself has no clock, journal or network."""

    record: Record
    gateway: Gateway
    stop_signal: StopSignal
    plan_for: PlanFor
    keep: KeepEvidence = keep_nothing
    approval_within: float = 900.0  # seconds
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    clock: Callable[[], float] = lambda: asyncio.get_running_loop().time()  # monotonic, in seconds

    async def pause(self, execution: Execution, seconds: float) -> None:
        """Waits between two checks. Raises Interrupted on a stop request; a revert is never interrupted."""
        await self.stop_signal.pause(seconds)
        if execution.state == "running" and await self.stop_signal.requested(execution, about_to_act=False):
            raise Interrupted

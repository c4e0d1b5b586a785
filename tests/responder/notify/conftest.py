"""Executions, notifications about them, a dispatcher on a journal, and a clock that tests advance."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from responder.decisions.policy_set import PolicySet
from responder.journal import Database, executions
from responder.notify import Dispatcher, Notify
from responder.notify.notification import Notification
from responder.notify.render import notification_of
from responder.rollback.events import (
    Accepted,
    ApprovalRequested,
    Approved,
    Closed,
    Event,
    Planned,
    StepCompleted,
    StepFailed,
    StepStarted,
    StopRequested,
)
from responder.rollback.execution import fold
from responder.rollback.stages import Stage, stage_of
from responder.services import registry, rollbacks
from tests.journals import journal, state  # noqa: F401
from tests.responder.examples import NOW, accepted, alert, deployment, plan, policy_set

SEVERITIES = ("critical", "warning")
CRITICAL = alert(
    {"alertname": "BackendDown", "service": "backend", "environment": "production", "severity": "critical"}
)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def critical(**other: Any) -> Accepted:
    return accepted(**{"alerts": (CRITICAL,), **other})


PLANNED = Planned(at=at(1), plan=plan())
STARTED = StepStarted(at=at(1), step=0, title=str(plan().steps[0]))
DONE = StepCompleted(at=at(2), step=0, changed=True)
SECOND = StepStarted(at=at(2), step=1, title=str(plan().steps[1]))
HEALTHY = StepCompleted(at=at(30), step=1, changed=False, note="up is 1")
SUCCEEDED = Closed(at=at(30), outcome="succeeded", by="responder", reason="")
HALTED = StepFailed(at=at(3), step=1, reason="the service <b>is</b> down")
STUCK = StepFailed(at=at(3), step=1, reason="the release was moved by bob", freeze=True, drift=True)
HELD = ApprovalRequested(at=at(1), reason="the policy requires approval", until=at(900))
APPROVED = Approved(at=at(60), by="alice", plan_hash=plan().hash)
CANCELLED = (
    StopRequested(at=at(9), by="carol", reason="no"),
    Closed(at=at(9), outcome="cancelled", by="carol", reason="stopped by carol: no"),
)
WELL: tuple[tuple[Event, ...], ...] = ((PLANNED, STARTED), (DONE, SECOND), (HEALTHY, SUCCEEDED))


def notification(
    *events: Event, begun: Accepted | None = None, stage: Stage | None = None, **links: str
) -> Notification:
    """The notification after these events."""
    everything = [begun or critical(), *events]
    after = fold("e-1", everything)
    found = stage or stage_of(everything[-1], after)
    assert found
    made = notification_of(
        "e-1", everything, found, occasion=str(after.seq), at=everything[-1].at, severities=SEVERITIES,
        guard_results=({"guard": "cooldown", "result": "allow", "reason": "no cooldown is active"},),
    )  # fmt: skip
    return made.model_copy(update=links)


class Clock:
    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class DispatcherBench:
    """A journal, and dispatchers on it."""

    def __init__(self, journal: Database) -> None:  # noqa: F811
        self.journal, self.clock = journal, Clock()
        self.notify = Notify()
        self.policy_set: PolicySet = policy_set()
        self.counted: list[tuple[str, str]] = []
        self._dispatchers: list[Dispatcher] = []

    def dispatcher(self) -> Dispatcher:
        made = Dispatcher(
            self.journal,
            lambda: self.notify,
            lambda: self.policy_set,
            links=lambda e: ("https://r.test/approve" if e.state == "awaiting_approval" else "", "https://r.test/stop"),
            counted=lambda channel, outcome: self.counted.append((channel, outcome)),
            now=self.clock,
        )
        self._dispatchers.append(made)
        return made

    async def accept(self, name: str = "e-1", **other: Any) -> str:
        begun = critical(**{"at": self.clock(), **other})
        for version in (begun.to_version, begun.from_version):
            deployed = deployment(id=f"{begun.service}-{version}", service=begun.service, version=version)
            await self.journal.transaction(registry.record, deployed)
        await self.journal.transaction(rollbacks.accept, name, begun)
        return name

    async def append(self, *events: Event, name: str = "e-1") -> None:
        """Events with the current time."""
        known = await self.journal.read(executions.load, name)
        events = tuple(event.model_copy(update={"at": self.clock()}) for event in events)
        await self.journal.transaction(rollbacks.append, known, events, None)

    async def deliver(self, dispatcher: Dispatcher, *, after: float = 0) -> None:
        """One complete round."""
        self.clock.advance(after)
        await dispatcher.round()
        await dispatcher.idle()

    async def messages(self, name: str = "e-1") -> list[tuple[str, str, str]]:
        async def find(tx: Any) -> Sequence[Any]:
            found: Sequence[Any] = await tx.all("messages_of", subject=name)
            return found

        return [(row["channel"], row["stage"], row["state"]) for row in await self.journal.read(find)]

    async def close(self) -> None:
        for dispatcher in self._dispatchers:
            await dispatcher.close()


@pytest.fixture
async def bench(journal: Database) -> AsyncIterator[DispatcherBench]:  # noqa: F811
    made = DispatcherBench(journal)
    yield made
    await made.close()


Configured = Callable[..., Notify]

"""A scripted gateway, record, stop signal and clock, to test the executor alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from pydantic import JsonValue

from responder.backends.check import Finding
from responder.errors import LeaseLost
from responder.rollback.events import Event, EvidenceCollected
from responder.rollback.execution import Execution
from responder.rollback.plan import Plan
from responder.rollback.ports import Ports, StopRequest
from tests.responder.examples import NOW

FINDINGS = {
    "+": Finding(holds=True, reason="up"),
    "-": Finding(holds=False, reason="down"),
    "?": Finding(holds=False, answered=False, reason="no answer"),
}


class FakeTime:
    """A clock that advances only with pauses, or as a test says."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def clock(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        self.seconds += seconds

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.seconds)


class FakeRecord:
    """Commits in a list. `crash_at`: the number of the commit that fails, from 0."""

    def __init__(self, crash_at: int | None = None) -> None:
        self.commits: list[tuple[Event, ...]] = []
        self.crash_at = crash_at
        self.at_commit: Callable[[], None] = lambda: None

    @property
    def events(self) -> list[Event]:
        return [event for commit in self.commits for event in commit]

    async def append(self, execution: Execution, *events: Event) -> Execution:
        if len(self.commits) == self.crash_at:
            self.crash_at = None
            raise LeaseLost("another worker took over")
        self.commits.append(events)
        self.at_commit()
        for event in events:
            execution = execution.after(event)
        return execution


class FakeGateway:
    """Resources in a dictionary by their text, and checks with scripted results.

    `converging`: results of the next looks at convergence, then always True. `looks`: one character of FINDINGS per
    look at a check; the last one is repeated.
    """

    def __init__(self, values: dict[str, JsonValue], *, converging: Sequence[Any] = (), looks: str = "+") -> None:
        self.values = values
        self.writes: list[tuple[str, JsonValue]] = []
        self.assisted = 0
        self.converging, self.looks = list(converging), list(looks)
        self.author = ""
        self.at_look: Callable[[], None] = lambda: None

    async def read(self, resource: Any) -> JsonValue:
        return self.values[str(resource)]

    async def write(self, resource: Any, value: JsonValue, *, expected: JsonValue) -> None:
        assert self.values[str(resource)] in (expected, value)
        self.values[str(resource)] = value
        self.writes.append((str(resource), value))

    async def converged(self, resource: Any, value: JsonValue) -> bool:
        result = self.converging.pop(0) if self.converging else True
        self.at_look()
        if isinstance(result, Exception):
            raise result
        return bool(result)

    async def assist(self, resource: Any, value: JsonValue) -> None:
        self.assisted += 1

    async def last_modified_by(self, resource: Any) -> str:
        return self.author

    async def holds(self, check: Any) -> Finding:
        self.at_look()
        return FINDINGS[self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]]


class FakeStopSignal:
    """Requests a stop when `when` returns it, and advances the time at each pause."""

    def __init__(self, time: FakeTime) -> None:
        self._time = time
        self.pauses: list[float] = []
        self.reads: list[tuple[str, bool]] = []  # state of the execution, and whether it was about to act
        self.when: Callable[[Execution], bool] = lambda execution: False

    async def requested(self, execution: Execution, *, about_to_act: bool) -> StopRequest | None:
        self.reads.append((execution.state, about_to_act))
        return StopRequest("alice", "enough") if self.when(execution) else None

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self._time.seconds += seconds


class FakePorts:
    """All dependencies of one execution; `plans` are the next results of planning, the last one repeated."""

    def __init__(
        self, *plans: Plan | Exception, gateway: FakeGateway, evidence: EvidenceCollected | None = None
    ) -> None:
        self.time = FakeTime()
        self.record, self.gateway, self.stop_signal = FakeRecord(), gateway, FakeStopSignal(self.time)
        self.plans, self.evidence = list(plans), evidence
        self.kept = 0

    async def _plan(self, execution: Execution) -> Plan:
        plan = self.plans.pop(0) if len(self.plans) > 1 else self.plans[0]
        if isinstance(plan, Exception):
            raise plan
        return plan

    async def _keep(self, execution: Execution) -> EvidenceCollected | None:
        self.kept += 1
        return self.evidence

    @property
    def ports(self) -> Ports:
        return Ports(
            record=self.record,
            gateway=self.gateway,  # type: ignore[arg-type]
            stop_signal=self.stop_signal,
            plan_for=self._plan,
            keep=self._keep,
            approval_within=60.0,
            now=self.time.now,
            clock=self.time.clock,
        )

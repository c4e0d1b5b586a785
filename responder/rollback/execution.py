"""What happened to one rollback: events in the past tense, and the execution as the pure fold of them."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue

from responder.backends.alertmanager.alerts import Timestamp
from responder.rollback.events import (
    Accepted,
    ApprovalRequested,
    Approved,
    Closed,
    Event,
    EvidenceCollected,
    Outcome,
    Planned,
    RetriesExhausted,
    StepCompleted,
    StepFailed,
    StepStarted,
    StopRequested,
)
from responder.rollback.plan import Change, Gate, Plan, Step, revert_steps
from responder.rollback.version_change import VersionChange

State = Literal["accepted", "awaiting_approval", "running", "reverting", "stuck", "closed"]
"""Every state but `closed` locks its service and environment; `stuck` stays locked until a human closes it."""


Position = Literal["before", "between", "after"]
"""Where a service is on its way from one version to the other."""


class Execution(BaseModel):
    """One rollback, as its events tell it."""

    model_config = ConfigDict(frozen=True)

    id: str
    seq: int  # of the last event
    state: State
    accepted: Accepted
    plan: Plan | None = None
    evidence: EvidenceCollected | None = None  # what became of the evidence
    todo: tuple[Step, ...] = ()
    taken: tuple[Step, ...] = ()
    current: Step | None = None  # started and neither done nor halted
    reached: dict[str, JsonValue] = {}  # the value to which each resource was set last
    current_since: Timestamp | None = None  # when it was started first, however often it was resumed
    steps_started: int = 0  # how many steps have been started; the next one gets this number
    changed: bool = False  # whether any write had an effect
    cancelled: bool = False
    cancelled_by_guard: bool = False
    approve_before: Timestamp | None = None
    approved_by: str | None = None
    although_resolved: bool = False
    reason: str = ""
    outcome: Outcome | None = None
    ended_at: Timestamp | None = None

    @property
    def live(self) -> bool:
        """Whether a worker has something to do for it now."""
        return self.state in ("accepted", "running", "reverting")

    def after(self, event: Event) -> Execution:
        """The execution once this event has happened."""
        return self.model_copy(update={"seq": self.seq + 1, **self._change(event)})

    def _change(self, event: Event) -> dict[str, object]:
        match event:
            case Planned():
                return {"plan": event.plan, "todo": event.plan.steps, "state": "running"}
            case EvidenceCollected():
                return {"evidence": event}
            case ApprovalRequested():
                # Who approved an earlier plan, and what they knew then, counts for that plan alone.
                forgotten = {"approved_by": None, "although_resolved": False}
                return {
                    "state": "awaiting_approval",
                    "reason": event.reason,
                    "approve_before": event.until,
                    **forgotten,
                }
            case Approved():
                approval = {"reason": f"approved by {event.by}", "approved_by": event.by}
                more = {"approve_before": None, "although_resolved": event.although_resolved}
                return {"state": "running", **more, **approval}
            case StepStarted():
                since = self.current_since if self.current else event.at
                return {"current": self.todo[0], "current_since": since, "steps_started": event.step + 1}
            case StepCompleted():
                step = self.todo[0]
                reached = {_key(step): step.after} if isinstance(step, Change) else {}
                return {
                    "reached": {**self.reached, **reached},
                    "taken": (*self.taken, self.todo[0]),
                    "todo": self.todo[1:],
                    "current": None,
                    "changed": self.changed or event.changed,
                }
            case StepFailed() if event.freeze or self.state == "reverting":
                return self._stuck(event.reason)
            case StepFailed():
                return self._turned_back(event.reason)
            case StopRequested():
                reason = f"stopped by {event.by}: {event.reason}"
                how = {"cancelled": True, "cancelled_by_guard": event.guard and not self.accepted.forced}
                return {**(self._stuck(reason) if event.hold else self._turned_back(reason)), **how}
            case RetriesExhausted():
                return self._stuck(event.reason)
            case Closed():
                reason = event.reason or self.reason
                return {"state": "closed", "outcome": event.outcome, "reason": reason, "ended_at": event.at, "todo": ()}
        return {}

    def _turned_back(self, reason: str) -> dict[str, object]:
        # The step that was under way may have had its effect before it failed, so it is turned round as well: where it
        # had none, its resource is found where it should be and nothing is written.
        taken = (*self.taken, *((self.current,) if self.current else ()))
        return {"state": "reverting", "todo": revert_steps(taken), "taken": (), "current": None, "reason": reason}

    def _stuck(self, reason: str) -> dict[str, object]:
        message = f"{reason} (partial: {self.progress})" if self.progress else reason
        return {"state": "stuck", "todo": (), "current": None, "reason": message}

    @property
    def has_begun(self) -> bool:
        """Whether a move that has to be undone had an effect, or may have had one before a crash."""
        undone = any(isinstance(step, Change) and not step.one_way for step in self.taken)
        return (self.changed and undone) or (isinstance(self.current, Change) and not self.current.one_way)

    @property
    def progress(self) -> str:
        """Which version each service is at, if several are rolled back and they differ; else empty."""
        positions, steps = [], iter(self.plan.steps if self.plan else ())
        for part in self.plan.parts if self.plan else ():
            changes = [step for step in islice(steps, part.steps) if isinstance(step, Change) and not step.one_way]
            positions.append((part.version, self._position(changes)))
        if len({position for _, position in positions}) < 2:
            return ""
        return "; ".join(f"{version.service} is {_describe(version, position)}" for version, position in positions)

    def _position(self, changes: list[Change]) -> Position:
        before = {_key(change): change.before for change in reversed(changes)}
        after = {_key(change): change.after for change in changes}
        now = {key: self.reached.get(key, before) for key, before in before.items()}
        under_way = isinstance(self.current, Change) and _key(self.current) in before
        if now == before and not under_way:
            return "before"
        return "after" if now == after and not under_way else "between"

    @property
    def in_place(self) -> list[Change]:
        """The moves taken so far that nothing later has overridden: their resources must be where they were put."""
        changes = [step for step in self.taken if isinstance(step, Change) and not step.one_way]
        last = {_key(change): change for change in changes}
        return list(last.values())

    @property
    def ending(self) -> Outcome | None:
        """The outcome that it has come to, where no step is left and only `Closed` is missing."""
        if self.todo or (self.plan is None and self.state != "reverting"):
            return None
        if self.state == "running":
            return "mitigated" if self.plan and self.plan.mitigations else "succeeded"
        if self.state == "reverting":
            return "cancelled" if self.cancelled else "reverted" if self.changed else "failed"
        return None

    @property
    def verification_failed(self) -> bool:
        """Whether all was set back and the service still did not recover: then neither version is to be trusted."""
        if self.plan is None or self.state not in ("stuck", "closed") or self.outcome == "succeeded":
            return False
        last = self.plan.steps[-1]
        return isinstance(last, Gate) and last.otherwise == "freeze" and self.taken == self.plan.steps[:-1]


def _describe(version: VersionChange, position: Position) -> str:
    match position:
        case "before":
            return f"still {version.from_version}"
        case "after":
            return f"back at {version.to_version}"
        case "between":
            return f"between {version.from_version} and {version.to_version}"


def _key(change: Change) -> str:
    return change.resource.model_dump_json()


def begin(execution_id: str, accepted: Accepted) -> Execution:
    """The execution after its first event."""
    return Execution(id=execution_id, seq=0, state="accepted", accepted=accepted)


def fold(execution_id: str, events: list[Event]) -> Execution:
    """The execution that these events tell of. Raises ValueError where the first is not `Accepted`."""
    first, *rest = events
    if not isinstance(first, Accepted):
        raise ValueError(f"execution {execution_id} begins with {first.type}, not accepted")
    execution = begin(execution_id, first)
    for event in rest:
        execution = execution.after(event)
    return execution


def seconds_between(start: datetime, end: datetime) -> float:
    return (end - start).total_seconds()

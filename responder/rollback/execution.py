"""The state of one rollback, as the pure fold of its events."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from typing import Literal

from pydantic import Field, JsonValue

from foundation.models import FrozenModel
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
"""Every state but `closed` locks its service and environment; a person must close a stuck one."""

Position = Literal["before", "between", "after"]
"""The position of a service between its two versions."""


_UNKNOWN = object()


class Execution(FrozenModel):
    """One rollback after the events so far."""

    id: str
    seq: int  # of the last event
    state: State
    accepted: Accepted
    plan: Plan | None = None
    evidence: EvidenceCollected | None = None
    todo: tuple[Step, ...] = ()
    taken: tuple[Step, ...] = ()
    current: Step | None = None  # started, and neither completed nor failed
    reached: dict[str, JsonValue] = Field(default_factory=dict)  # last value of each resource, by its JSON
    current_since: Timestamp | None = None  # first start of the current step, even if it was resumed
    steps_started: int = 0  # also the number of the next step
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
        """Whether a worker can continue it."""
        return self.state in ("accepted", "running", "reverting")

    def after(self, event: Event) -> Execution:
        """The execution after this event."""
        return self.model_copy(update={"seq": self.seq + 1, **self._change(event)})

    def _change(self, event: Event) -> dict[str, object]:
        match event:
            case Planned():
                return {"plan": event.plan, "todo": event.plan.steps, "state": "running"}
            case EvidenceCollected():
                return {"evidence": event}
            case ApprovalRequested():
                # An approval is for one plan only.
                cleared = {"approved_by": None, "although_resolved": False}
                return {
                    "state": "awaiting_approval",
                    "reason": event.reason,
                    "approve_before": event.until,
                    **cleared,
                }
            case Approved():
                return {
                    "state": "running",
                    "reason": f"approved by {event.by}",
                    "approve_before": None,
                    "approved_by": event.by,
                    "although_resolved": event.although_resolved,
                }
            case StepStarted():
                since = self.current_since if self.current else event.at
                return {"current": self.todo[0], "current_since": since, "steps_started": event.step + 1}
            case StepCompleted():
                step = self.todo[0]
                reached = {_key(step): step.after} if isinstance(step, Change) else {}
                return {
                    "reached": {**self.reached, **reached},
                    "taken": (*self.taken, step),
                    "todo": self.todo[1:],
                    "current": None,
                    "changed": self.changed or event.changed,
                }
            case StepFailed() if event.freeze or self.state == "reverting":
                return self._stuck(event.reason)
            case StepFailed():
                return self._reverting(event.reason)
            case StopRequested():
                reason = f"stopped by {event.by}: {event.reason}"
                by = {"cancelled": True, "cancelled_by_guard": event.guard and not self.accepted.forced}
                return {**(self._stuck(reason) if event.hold else self._reverting(reason)), **by}
            case RetriesExhausted():
                return self._stuck(event.reason)
            case Closed():
                # While it runs, the reason is only its approval. A success needs no other reason than the alert.
                reason = event.reason or ("" if self.state == "running" else self.reason)
                return {"state": "closed", "outcome": event.outcome, "reason": reason, "ended_at": event.at, "todo": ()}
        return {}

    def _reverting(self, reason: str) -> dict[str, object]:
        # The current step may have had its effect before it failed, so it is reverted as well. If it had none, its
        # resource still has the value before it, and nothing is written.
        taken = (*self.taken, *((self.current,) if self.current else ()))
        return {"state": "reverting", "todo": revert_steps(taken), "taken": (), "current": None, "reason": reason}

    def _stuck(self, reason: str) -> dict[str, object]:
        message = f"{reason} (partial: {self.progress})" if self.progress else reason
        if self.temporary:
            message += f"; temporary settings that may still be in place: {'; '.join(self.temporary)}"
        return {"state": "stuck", "todo": (), "current": None, "reason": message}

    @property
    def temporary(self) -> list[str]:
        """What the plan set only for its duration, and may not have restored."""
        steps = self.plan.steps if self.plan else ()
        changes = [step for step in steps if isinstance(step, Change)]
        restored = {step.restores for step in changes if self.reached.get(_key(step), _UNKNOWN) == step.after}
        may_be_set = (*(self.todo if self.state == "reverting" else self.taken), self.current)
        found = [step.temporary for step in may_be_set if isinstance(step, Change) and step.temporary]
        return [value for value in dict.fromkeys(found) if value not in restored]

    @property
    def has_begun(self) -> bool:
        """Whether a change that a revert would undo had an effect, or may have had one before a crash."""
        revertible = any(isinstance(step, Change) and not step.one_way for step in self.taken)
        return (self.changed and revertible) or (isinstance(self.current, Change) and not self.current.one_way)

    @property
    def progress(self) -> str:
        """The version of each service, if several are rolled back and they differ; else empty."""
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
        now = {key: self.reached.get(key, value) for key, value in before.items()}
        under_way = isinstance(self.current, Change) and _key(self.current) in before
        if now == before and not under_way:
            return "before"
        return "after" if now == after and not under_way else "between"

    @property
    def in_place(self) -> list[Change]:
        """The last change of each resource so far: the resource must still have that value."""
        changes = [step for step in self.taken if isinstance(step, Change) and not step.one_way]
        last = {_key(change): change for change in changes}
        return list(last.values())

    @property
    def ending(self) -> Outcome | None:
        """The outcome, if no step is left and only the event `Closed` is missing; else None."""
        if self.todo or (self.plan is None and self.state != "reverting"):
            return None
        if self.state == "running":
            return "mitigated" if self.plan and self.plan.mitigations else "succeeded"
        if self.state == "reverting":
            return "cancelled" if self.cancelled else "reverted" if self.changed else "failed"
        return None

    @property
    def verification_failed(self) -> bool:
        """Whether every change was made and the service still did not recover: then both versions are suspect.

        A stop during the verification says nothing about the versions.
        """
        if self.plan is None or self.cancelled or self.state not in ("stuck", "closed") or self.outcome == "succeeded":
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
    """The execution after these events. Raises ValueError if the first is not `Accepted`."""
    first, *rest = events
    if not isinstance(first, Accepted):
        raise ValueError(f"execution {execution_id} starts with {first.type}, not accepted")
    execution = begin(execution_id, first)
    for event in rest:
        execution = execution.after(event)
    return execution


def seconds_between(start: datetime, end: datetime) -> float:
    """The seconds from start to end."""
    return (end - start).total_seconds()

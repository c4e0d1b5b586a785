"""Events of one rollback, in the past tense. They are appended to the journal and never modified."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from foundation.models import StrictModel
from responder.backends.alertmanager.alerts import Alert, Timestamp
from responder.config.text import counted
from responder.rollback.plan import Plan
from responder.rollback.version_change import VersionChange

Outcome = Literal["succeeded", "reverted", "mitigated", "cancelled", "failed"]


class _Event(StrictModel):
    at: Timestamp


class Accepted(_Event):
    """The guards allowed it. Contains everything that later steps need."""

    type: Literal["accepted"] = "accepted"
    service: str
    environment: str
    policy: str
    strategy: str
    from_version: str
    to_version: str
    artifacts: dict[str, str] = Field(
        default_factory=dict
    )  # artifacts of the target version, by platform as in VersionChange
    from_artifacts: dict[str, str] = Field(default_factory=dict)  # of the running version
    also: tuple[VersionChange, ...] = ()  # other services of the environment, rolled back by the same plan
    requested_by: str
    forced: bool = False  # requested by a person, despite cooldown and mode
    reason: str
    on_stop: Literal["revert", "hold"] = "revert"
    approval_reason: str = ""  # why a person must approve the plan; empty: no approval required
    alerts: tuple[Alert, ...] = ()
    truncated_alerts: int = 0
    deployment_id: str = ""  # of the running version
    deployed_at: Timestamp | None = None
    onset_at: Timestamp | None = None
    received_at: Timestamp

    @property
    def parts(self) -> tuple[VersionChange, ...]:
        """Every service that is rolled back; the execution is named after the first one."""
        own = self.model_dump(include=set(VersionChange.model_fields))
        return (VersionChange(**own), *self.also)


class Planned(_Event):
    """The plan was made. It is journaled before the first change."""

    type: Literal["planned"] = "planned"
    plan: Plan


class EvidenceCollected(_Event):
    """Evidence was kept before the first change, or could not be kept. A failure does not stop the rollback."""

    type: Literal["evidence_collected"] = "evidence_collected"
    note: str
    location: str = ""  # URL or directory; empty if nothing was kept
    files: int = 0
    bytes: int = 0
    missing: int = 0  # sources without data
    seconds: float = 0.0


class ApprovalRequested(_Event):
    """The plan waits for a person."""

    type: Literal["approval_requested"] = "approval_requested"
    reason: str
    until: Timestamp
    renewed: bool = False  # the request was renewed, because the trouble continues


class Approved(_Event):
    """A person approved exactly this plan."""

    type: Literal["approved"] = "approved"
    by: str
    plan_hash: str
    although_resolved: bool = False  # approved although the trouble is no longer visible


class Resumed(_Event):
    """Another worker, or the same one after a restart, resumed the execution."""

    type: Literal["resumed"] = "resumed"
    worker: str


class StepStarted(_Event):
    """Written before each step. Its key (execution, seq) is the fence: the second of two workers fails to write it."""

    type: Literal["step_started"] = "step_started"
    step: int
    title: str


class StepCompleted(_Event):
    """The step was completed, or its effect was already in place."""

    type: Literal["step_completed"] = "step_completed"
    step: int
    changed: bool  # whether this step changed anything
    note: str = ""


class StepFailed(_Event):
    """A step failed, or planning did. Completed steps are reverted; with `freeze` they stay until a person acts."""

    type: Literal["step_failed"] = "step_failed"
    step: int | None = None  # None: planning failed
    reason: str
    freeze: bool = False
    drift: bool = False  # someone else changed a resource: says nothing about the versions
    inconclusive: bool = False  # no check answered: says nothing about the versions either
    reverted_by: str = ""  # who changed it, if known, such as `argocd-controller`


class StopRequested(_Event):
    """It was stopped at a safe point: between two steps, or while one was waiting."""

    type: Literal["stop_requested"] = "stop_requested"
    by: str
    reason: str
    hold: bool = False  # keep the changes so far, and page
    guard: bool = False  # stopped by a guard or the kill switch: the same alert may open another rollback later


class RetriesExhausted(_Event):
    """It was resumed `limits.max_resumptions` times without completing."""

    type: Literal["retries_exhausted"] = "retries_exhausted"
    reason: str


class Closed(_Event):
    """It was closed, by itself or by a person."""

    type: Literal["closed"] = "closed"
    outcome: Outcome
    by: str
    reason: str


Event = Annotated[
    Accepted
    | Planned
    | EvidenceCollected
    | ApprovalRequested
    | Approved
    | Resumed
    | StepStarted
    | StepCompleted
    | StepFailed
    | StopRequested
    | RetriesExhausted
    | Closed,
    Field(discriminator="type"),
]


def note_of(event: Event) -> str | None:
    """The text of the event in histories; None for the start of a step, which has its title."""
    match event:
        case Accepted() | StepFailed() | RetriesExhausted():
            return event.reason
        case Planned():
            return f"{counted(len(event.plan.steps), 'step')}, plan {event.plan.hash}"
        case ApprovalRequested():
            return f"{event.reason}; waits until {event.until:%Y-%m-%d %H:%M:%S} UTC"
        case Approved():
            return f"by {event.by}, plan {event.plan_hash}"
        case Resumed():
            return f"by {event.worker}"
        case StepCompleted() | EvidenceCollected():
            return event.note
        case StopRequested():
            return f"by {event.by}: {event.reason}"
        case Closed():
            return f"{event.outcome}, by {event.by}" + (f": {event.reason}" if event.reason else "")
    return None

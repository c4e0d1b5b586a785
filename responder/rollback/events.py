"""Events of one rollback: what happened, in the past tense. They are appended to the journal and never changed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from responder.backends.alertmanager.alerts import Alert, Timestamp
from responder.rollback.plan import Plan
from responder.rollback.version_change import VersionChange

Outcome = Literal["succeeded", "reverted", "mitigated", "cancelled", "failed"]


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    at: Timestamp


class Accepted(_Event):
    """The guards allowed it. Everything that a later part needs is here."""

    type: Literal["accepted"] = "accepted"
    service: str
    environment: str
    policy: str
    strategy: str
    from_version: str
    to_version: str
    artifacts: dict[str, str] = {}  # of the version to go back to, by platform as in VersionChange
    from_artifacts: dict[str, str] = {}  # of the version that runs
    also: tuple[VersionChange, ...] = ()  # other services of the environment, rolled back by the same plan
    requested_by: str
    forced: bool = False  # requested by a person, despite cooldown and mode
    reason: str
    on_stop: Literal["revert", "hold"] = "revert"
    approval_reason: str = ""  # why a person has to approve the plan; empty: nobody has to
    alerts: tuple[Alert, ...] = ()
    truncated_alerts: int = 0
    deployment_id: str = ""  # of the version that runs
    deployed_at: Timestamp | None = None
    onset_at: Timestamp | None = None
    received_at: Timestamp

    @property
    def parts(self) -> tuple[VersionChange, ...]:
        """Every service that is rolled back; the first is the one that the execution is named after."""
        own = self.model_dump(include=set(VersionChange.model_fields))
        return (VersionChange(**own), *self.also)


class Planned(_Event):
    type: Literal["planned"] = "planned"
    plan: Plan


class EvidenceCollected(_Event):
    """Evidence was kept, or could not be. It was looked for before anything was touched, and never stops anything."""

    type: Literal["evidence_collected"] = "evidence_collected"
    note: str
    location: str = ""  # empty where nothing could be kept
    files: int = 0
    bytes: int = 0
    missing: int = 0
    seconds: float = 0.0


class ApprovalRequested(_Event):
    """The plan waits for a human."""

    type: Literal["approval_requested"] = "approval_requested"
    reason: str
    until: Timestamp
    renewed: bool = False  # the same plan waits on, because the trouble goes on


class Approved(_Event):
    type: Literal["approved"] = "approved"
    by: str
    plan_hash: str
    although_resolved: bool = False  # whoever approved it knew that the trouble was not visible any more


class Resumed(_Event):
    """Another worker, or the same one after a crash, goes on from here."""

    type: Literal["resumed"] = "resumed"
    worker: str


class StepStarted(_Event):
    """Written before a step is taken. Its (execution, seq) is the fence: of two workers the second fails here."""

    type: Literal["step_started"] = "step_started"
    step: int
    title: str


class StepCompleted(_Event):
    type: Literal["step_completed"] = "step_completed"
    step: int
    changed: bool
    note: str = ""


class StepFailed(_Event):
    """A step could not be done. `freeze` leaves everything as it is for a human."""

    type: Literal["step_failed"] = "step_failed"
    step: int | None = None  # None: it never came to a plan
    reason: str
    freeze: bool = False
    drift: bool = False  # somebody else moved a resource: that says nothing about the versions
    inconclusive: bool = False  # nobody could say how it is: that says nothing about the versions either
    reverted_by: str = ""  # who did, where the outside keeps books of that, as `argocd-controller`


class StopRequested(_Event):
    """Somebody asked it to stop, and it did at the next safe point: between two steps, never inside one."""

    type: Literal["stop_requested"] = "stop_requested"
    by: str
    reason: str
    hold: bool = False  # leave what was done so far as it is, and call a human
    guard: bool = False  # until a guard allows it, the kill switch included: the same alert may open another rollback


class RetriesExhausted(_Event):
    type: Literal["retries_exhausted"] = "retries_exhausted"
    reason: str


class Closed(_Event):
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

"""What is on record about one rollback, and what a post-mortem says of it."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from responder.backends.alertmanager.alerts import Alert
from responder.decisions.guards import GuardResult
from responder.journal.deployments import Deployment
from responder.rollback.events import Event


class ReportedDecision(BaseModel):
    """One verdict on an alert of the service, around that time."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    at: datetime
    times: int
    policy: str
    result: str
    guard: str
    reason: str
    execution: str | None


class Version(BaseModel):
    """What is known of a version by now."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: str
    status: str
    reason: str


class Record(BaseModel):
    """Everything on record about one rollback."""

    model_config = ConfigDict(frozen=True)

    id: str
    events: tuple[Event, ...]
    deployed: Deployment | None = None  # the deployment that was rolled back
    guard_results: tuple[GuardResult, ...] = ()  # of the decision that opened it
    decisions: tuple[ReportedDecision, ...] = ()
    versions: tuple[Version, ...] = ()


class Window(BaseModel):
    """The moments that matter; null where nobody knows."""

    deployed_at: datetime | None
    onset_at: datetime | None
    firing_at: datetime | None
    received_at: datetime
    accepted_at: datetime
    acted_at: datetime | None
    ended_at: datetime | None


class Stage(BaseModel):
    """From one moment to the next."""

    name: str
    seconds: float


class Moment(BaseModel):
    at: datetime
    what: str
    detail: str = ""


class ReportedChange(BaseModel):
    """A move, and whether it had an effect; `effect` is null where it was begun and its end is not on record."""

    resource: str
    before: str
    after: str
    way_back: bool
    effect: bool | None


class PostMortem(BaseModel):
    """A draft: `questions` are for humans to answer."""

    id: str
    service: str
    environment: str
    strategy: str
    policy: str
    requested_by: str
    from_version: str
    to_version: str
    state: str
    outcome: str | None
    summary: str
    impact_seconds: float | None
    window: Window
    stages: list[Stage]
    timeline: list[Moment]
    changes: list[ReportedChange]
    guard_results: list[GuardResult]
    alerts: list[Alert]
    left_to_do: list[str]
    questions: list[str]

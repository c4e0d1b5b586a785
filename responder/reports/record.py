"""The record of one rollback, and the post-mortem made from it."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel

from foundation.models import FrozenModel
from responder.backends.alertmanager.alerts import Alert
from responder.decisions.guards import GuardResult
from responder.journal.deployments import Deployment
from responder.rollback.events import Event


class ReportedDecision(FrozenModel):
    """One decision about the service at about the time of the rollback."""

    at: datetime
    times: int
    policy: str
    result: str
    guard: str
    reason: str
    execution: str | None


class Version(FrozenModel):
    """The current status of a version."""

    version: str
    status: str
    reason: str


class ExecutionRecord(FrozenModel):
    """Everything in the journal about one rollback."""

    id: str
    events: tuple[Event, ...]
    deployed: Deployment | None = None  # the deployment that was rolled back
    guard_results: tuple[GuardResult, ...] = ()  # of the decision that opened it
    decisions: tuple[ReportedDecision, ...] = ()
    versions: tuple[Version, ...] = ()


class Window(BaseModel):
    """The important times; null if unknown."""

    deployed_at: datetime | None
    onset_at: datetime | None
    firing_at: datetime | None
    received_at: datetime
    accepted_at: datetime
    acted_at: datetime | None
    ended_at: datetime | None


class Stage(BaseModel):
    """The time between two moments."""

    name: str
    seconds: float


class Moment(BaseModel):
    at: datetime
    what: str
    detail: str = ""


class ReportedChange(BaseModel):
    """A change, and whether it had an effect; `effect` is null if its end is not recorded."""

    resource: str
    before: str
    after: str
    reverting: bool
    effect: bool | None


class PostMortem(BaseModel):
    """The draft. People answer its `questions`."""

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

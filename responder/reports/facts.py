"""The facts behind a health report."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from foundation.models import FrozenModel
from responder.decisions.policies import Mode
from responder.journal.deployments import Deployment


class CheckResult(FrozenModel):
    """The current result of one check of a service."""

    kind: Literal["health", "traffic"]
    check: str
    state: Literal["holds", "fails", "unknown"]
    reason: str


class Rollback(FrozenModel):
    """One row of the history."""

    id: str
    service: str
    environment: str
    policy: str
    state: str
    outcome: str | None
    from_version: str
    to_version: str
    reason: str
    accepted_at: datetime
    ended_at: datetime | None
    plan_hash: str | None = None


class Cooldown(FrozenModel):
    policy: str
    until: datetime


class Denial(FrozenModel):
    """Alerts that requested a rollback, and the guard that denied it."""

    guard: str
    reason: str
    n: int
    last_at: datetime


class ServiceFacts(FrozenModel):
    """One configured service."""

    service: str
    environment: str
    depends_on: tuple[str, ...] = ()
    running: Deployment | None = None
    target: str | None = None  # the version that a rollback would restore
    protected: str = ""  # the version that no rollback can go past, and why
    checks: tuple[CheckResult, ...] = ()
    pinned: tuple[str, ...] = ()  # what keeps it at the version of its rollback
    silenced: str = ""  # which of its alerts are silenced while it fails, and by whom
    open: Rollback | None = None
    last: Rollback | None = None  # the latest closed one
    cooldowns: tuple[Cooldown, ...] = ()
    modes: dict[str, Mode | Literal["force"]] = Field(default_factory=dict)  # of the policies that can roll it back
    refused: tuple[Denial, ...] = ()


class ReportInputs(FrozenModel):
    """All facts of one report."""

    at: datetime
    since: datetime
    stopped: str = ""  # who stopped all automation, and why
    disarmed: str = ""  # why, if the watchdog is missing or silenced
    has_lease: bool = True
    journal_took: float = 0.0
    mistake: str = ""  # the first error of the last reload
    services: tuple[ServiceFacts, ...] = ()
    rollbacks: tuple[Rollback, ...] = ()  # accepted since then, newest first

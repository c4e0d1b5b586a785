"""Everything that a report on how it is now rests on."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from responder.decisions.policies import Mode
from responder.journal.deployments import Deployment


class _Fact(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Asked(_Fact):
    """One check of a service, asked a moment ago."""

    kind: Literal["healthy", "traffic"]
    check: str
    state: Literal["holds", "fails", "unknown"]
    reason: str


class Rollback(_Fact):
    """A rollback as its row has it."""

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


class Cooldown(_Fact):
    policy: str
    until: datetime


class Refused(_Fact):
    """Alerts that wanted a rollback, and the guard that decided against it."""

    guard: str
    reason: str
    n: int
    last_at: datetime


class ServiceFacts(_Fact):
    """One configured service."""

    service: str
    environment: str
    depends_on: tuple[str, ...] = ()
    running: Deployment | None = None
    target: str | None = None  # the known-good version that it would go back to
    must_stay: str = ""  # the version that it must not go back past, and why
    checks: tuple[Asked, ...] = ()
    silenced: str = ""  # which of its alerts are muted while it fails, and by whom
    open: Rollback | None = None
    last: Rollback | None = None  # the newest that ended
    cooldowns: tuple[Cooldown, ...] = ()
    modes: dict[str, Mode | Literal["force"]] = Field(default_factory=dict)  # of the policies that may roll it back
    refused: tuple[Refused, ...] = ()


class ReportInputs(_Fact):
    """Everything that the report rests on."""

    at: datetime
    since: datetime
    stopped: str = ""  # who stopped all automation, and why
    disarmed: str = ""  # why, where the watchdog stays away or is silenced
    has_lease: bool = True
    journal_took: float = 0.0
    mistake: str = ""  # the first one in the configuration file that was refused at the last reload
    services: tuple[ServiceFacts, ...] = ()
    rollbacks: tuple[Rollback, ...] = ()  # begun since then, newest first

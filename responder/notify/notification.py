"""All that a message can say of a rollback at a stage, as plain text; each channel escapes it in its own way."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from responder.rollback.stages import CALLS, ENDS, Stage

_HEADLINES: dict[Stage, str] = {
    "alert": "Alert",
    "observed": "Would have rolled back",
    "refused": "Not rolled back",
    "accepted": "Rollback accepted",
    "approval_requested": "Rollback needs approval",
    "approved": "Rollback approved",
    "started": "Rolling back",
    "progress": "Rolling back",
    "reverting": "Rollback is being turned back",
    "stuck": "Rollback is stuck, a human is needed",
    "escalated": "Still waiting for a human",
    "succeeded": "Rolled back",
    "reverted": "Rollback was turned back",
    "mitigated": "Mitigated",
    "cancelled": "Rollback cancelled",
    "failed": "Rollback failed",
}


class NotifiedStep(BaseModel):
    """One step of the plan, or of the way back."""

    model_config = ConfigDict(frozen=True)

    title: str
    state: Literal["done", "under way", "failed", "to do"]
    note: str = ""


class NotifiedAlert(BaseModel):
    """One of the alerts behind it."""

    model_config = ConfigDict(frozen=True)

    name: str
    severity: str
    summary: str
    labels: dict[str, str]
    starts_at: datetime


class NotifiedGuardResult(BaseModel):
    """What one guard said."""

    model_config = ConfigDict(frozen=True)

    guard: str
    result: str
    reason: str


class Line(BaseModel):
    """One line of what happened."""

    model_config = ConfigDict(frozen=True)

    at: datetime
    text: str


class Notification(BaseModel):
    """Everything that a message can say."""

    model_config = ConfigDict(frozen=True)

    subject: str  # the execution, or the decision that led to none
    occasion: str  # the same however often this message is tried
    stage: Stage
    at: datetime
    service: str
    environment: str
    policy: str
    reason: str  # why it was begun, or was not
    happened: str  # what has come to it by now, and why
    severity: str = ""
    strategy: str = ""
    from_version: str = ""
    to_version: str = ""
    requested_by: str = ""
    outcome: str = ""
    accepted_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    approve_before: datetime | None = None
    steps: tuple[NotifiedStep, ...] = ()
    notes: tuple[str, ...] = ()
    alerts: tuple[NotifiedAlert, ...] = ()
    guard_results: tuple[NotifiedGuardResult, ...] = ()
    timeline: tuple[Line, ...] = ()
    evidence: tuple[str, ...] = ()
    remains: tuple[str, ...] = ()  # what a person still has to do, where it could only be mitigated
    command: str = ""  # what a human would type next
    approve_url: str = ""
    stop_url: str = ""

    @property
    def topic(self) -> str:
        """The same from the first message to the last."""
        if self.stage == "alert":
            return f"{self.reason} on {self._where}" if self.service else self.reason
        if self.stage in ("observed", "refused"):
            return f"No rollback of {self._where}"
        return f"Rollback of {self._where}: {self.from_version} → {self.to_version}"

    @property
    def _where(self) -> str:
        return f"{self.service} in {self.environment}" if self.environment else self.service

    @property
    def title(self) -> str:
        versions = f" {self.from_version} → {self.to_version}" if self.to_version else ""
        where = self.topic if self.stage == "alert" else f"{self._where}{versions}"
        return f"{_HEADLINES[self.stage]}: {where}"

    @property
    def urgent(self) -> bool:
        return self.stage in CALLS

    @property
    def over(self) -> bool:
        return self.stage in ENDS

    def variables(self) -> dict[str, Any]:
        """What templates can name."""
        shown = {"title": self.title, "topic": self.topic, "urgent": self.urgent, "over": self.over}
        return {**self.model_dump(), **shown}

    def without_links(self) -> Notification:
        return self.model_copy(update={"approve_url": "", "stop_url": ""})


VARIABLES = frozenset(Notification.model_fields) | {"title", "topic", "urgent", "over"}

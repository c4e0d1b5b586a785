"""A notification: what a message can say about a rollback at one stage, as plain text that each channel escapes."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from foundation.models import FrozenModel
from responder.rollback.stages import CALLS, ENDS, Stage

_HEADLINES: dict[Stage, str] = {
    "alert": "Alert",
    "observed": "Would have rolled back",
    "denied": "Not rolled back",
    "accepted": "Rollback accepted",
    "approval_requested": "Rollback needs approval",
    "approved": "Rollback approved",
    "started": "Rolling back",
    "progress": "Rolling back",
    "reverting": "Reverting the rollback",
    "stuck": "Rollback is stuck and needs a human",
    "escalated": "Rollback still needs a human",
    "succeeded": "Rolled back",
    "reverted": "Rollback reverted",
    "mitigated": "Mitigated",
    "cancelled": "Rollback cancelled",
    "failed": "Rollback failed",
}


class NotifiedStep(FrozenModel):
    """One step of the plan, or one revert step."""

    title: str
    state: Literal["done", "running", "failed", "pending"]
    note: str = ""


class NotifiedAlert(FrozenModel):
    """One alert that led to the rollback."""

    name: str
    severity: str
    summary: str
    labels: dict[str, str]
    starts_at: datetime


class NotifiedGuardResult(FrozenModel):
    """The result of one guard."""

    guard: str
    result: str
    reason: str


class ProgressLine(FrozenModel):
    """One entry of the timeline."""

    at: datetime
    text: str


class Notification(FrozenModel):
    """Everything that a message can say. Templates name these fields."""

    subject: str  # the ID of the execution, or of the decision that led to none
    occasion: str  # the same for every attempt to deliver this notification
    stage: Stage
    at: datetime
    service: str
    environment: str
    policy: str
    reason: str  # why the rollback was started, or was not
    happened: str  # what has happened since, and why
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
    timeline: tuple[ProgressLine, ...] = ()
    evidence: tuple[str, ...] = ()
    remains: tuple[str, ...] = ()  # what a human still has to do after a mitigation
    command: str = ""  # the command that a human would run next
    approve_url: str = ""
    stop_url: str = ""

    @property
    def topic(self) -> str:
        """The subject line: the same for every notification of one subject."""
        if self.stage == "alert":
            return f"{self.reason} on {self._target}" if self.service else self.reason
        if self.stage in ("observed", "denied"):
            return f"No rollback of {self._target}"
        return f"Rollback of {self._target}: {self.from_version} → {self.to_version}"

    @property
    def _target(self) -> str:
        return f"{self.service} in {self.environment}" if self.environment else self.service

    @property
    def title(self) -> str:
        """The headline of this notification."""
        versions = f" {self.from_version} → {self.to_version}" if self.to_version else ""
        target = self.topic if self.stage == "alert" else f"{self._target}{versions}"
        return f"{_HEADLINES[self.stage]}: {target}"

    @property
    def urgent(self) -> bool:
        """Whether a human must act."""
        return self.stage in CALLS

    @property
    def over(self) -> bool:
        """Whether the rollback has ended."""
        return self.stage in ENDS

    def variables(self) -> dict[str, Any]:
        """The values that templates can name."""
        shown = {"title": self.title, "topic": self.topic, "urgent": self.urgent, "over": self.over}
        return {**self.model_dump(), **shown}

    def without_links(self) -> Notification:
        """The same notification without the links that approve and stop."""
        return self.model_copy(update={"approve_url": "", "stop_url": ""})


VARIABLES = frozenset(Notification.model_fields) | {"title", "topic", "urgent", "over"}

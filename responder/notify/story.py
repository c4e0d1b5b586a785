"""What people are told of a rollback at a stage: pure, and plain text; each channel escapes it in its own way."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from responder.durations import format_duration
from responder.execution import (
    Accepted,
    Approved,
    Closed,
    Done,
    Event,
    Execution,
    GaveUp,
    Halted,
    Held,
    Kept,
    Started,
    fold,
    seconds_between,
)
from responder.execution import Stopped as StoppedEvent
from responder.stages import CALLS, ENDS, Stage
from responder.words import one_line

_HEADLINES: dict[Stage, str] = {
    "alert": "Alert",
    "observed": "Would have rolled back",
    "refused": "Not rolled back",
    "accepted": "Rollback accepted",
    "needs_approval": "Rollback needs approval",
    "approved": "Rollback approved",
    "started": "Rolling back",
    "progress": "Rolling back",
    "turning_back": "Rollback is being turned back",
    "stuck": "Rollback is stuck, a human is needed",
    "escalated": "Still waiting for a human",
    "succeeded": "Rolled back",
    "compensated": "Rollback was turned back",
    "mitigated": "Mitigated",
    "cancelled": "Rollback cancelled",
    "failed": "Rollback failed",
}


class ToldStep(BaseModel):
    """One step of the plan, or of the way back."""

    model_config = ConfigDict(frozen=True)

    title: str
    state: Literal["done", "under way", "failed", "to do"]
    note: str = ""


class ToldAlert(BaseModel):
    """One of the alerts behind it."""

    model_config = ConfigDict(frozen=True)

    name: str
    severity: str
    summary: str
    labels: dict[str, str]
    starts_at: datetime


class ToldVerdict(BaseModel):
    """What one guard said."""

    model_config = ConfigDict(frozen=True)

    guard: str
    verdict: str
    reason: str


class Line(BaseModel):
    """One line of what happened."""

    model_config = ConfigDict(frozen=True)

    at: datetime
    text: str


class Story(BaseModel):
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
    steps: tuple[ToldStep, ...] = ()
    notes: tuple[str, ...] = ()
    alerts: tuple[ToldAlert, ...] = ()
    verdicts: tuple[ToldVerdict, ...] = ()
    timeline: tuple[Line, ...] = ()
    evidence: tuple[str, ...] = ()
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

    def without_links(self) -> Story:
        return self.model_copy(update={"approve_url": "", "stop_url": ""})


VARIABLES = frozenset(Story.model_fields) | {"title", "topic", "urgent", "over"}


def severity_of(alerts: Sequence[dict[str, str]], order: Sequence[str]) -> str:
    """The most severe `severity` label; of those that the order does not know, the first; empty where there is none."""
    found = [labels["severity"] for labels in alerts if labels.get("severity")]
    unknown = [one for one in found if one not in order]
    return unknown[0] if unknown else min(found, key=order.index, default="")


def story_of(
    execution_id: str,
    events: Sequence[Event],
    stage: Stage,
    *,
    occasion: str,
    at: datetime,
    severities: Sequence[str],
    verdicts: Sequence[dict[str, str]] = (),
) -> Story:
    """What there is to tell of an execution after these events."""
    execution = fold(execution_id, list(events))
    told = execution.accepted
    started = [event.at for event in events if isinstance(event, Started)]
    return Story(
        subject=execution_id,
        occasion=occasion,
        stage=stage,
        at=at,
        service=told.service,
        environment=told.environment,
        policy=told.policy,
        reason=told.reason,
        happened=_happened(execution, events, stage),
        severity=severity_of([alert.labels for alert in told.alerts], severities),
        strategy=told.strategy,
        from_version=told.from_version,
        to_version=told.to_version,
        requested_by=told.requested_by,
        outcome=execution.outcome or "",
        accepted_at=told.at,
        started_at=started[0] if started else None,
        ended_at=execution.ended_at,
        approve_before=execution.held_until if execution.state == "held" else None,
        steps=_steps(execution, events),
        notes=execution.plan.notes if execution.plan else (),
        alerts=tuple(
            ToldAlert(
                name=alert.name,
                severity=alert.labels.get("severity", ""),
                summary=one_line(alert.annotations.get("summary", "")),
                labels=alert.labels,
                starts_at=alert.starts_at,
            )
            for alert in told.alerts[:20]
        ),
        verdicts=tuple(ToldVerdict.model_validate(verdict) for verdict in verdicts),
        timeline=tuple(_lines(events)),
        evidence=_evidence(execution),
        command=_command(execution),
    )


def story_of_decision(row: dict[str, Any], stage: Stage, *, occasion: str, severities: Sequence[str]) -> Story:
    """What there is to tell of a decision that led to no execution. `row` is its row, with `body` as data."""
    alerts, body = row["body"].get("alerts", []), row["body"]
    return Story(
        subject=row["id"],
        occasion=occasion,
        stage=stage,
        at=row["at"],
        service=row["service"],
        environment=row["environment"],
        policy=row["policy"],
        reason=", ".join(sorted({one["labels"].get("alertname", "") for one in alerts})) or row["reason"],
        happened=row["reason"],
        severity=severity_of([one["labels"] for one in alerts], severities),
        from_version=(body.get("running") or {}).get("version", ""),
        to_version=(body.get("target") or {}).get("version", ""),
        accepted_at=row["at"],
        alerts=tuple(
            ToldAlert(
                name=one["labels"].get("alertname", ""),
                severity=one["labels"].get("severity", ""),
                summary=one_line(one.get("annotations", {}).get("summary", "")),
                labels=one["labels"],
                starts_at=one["starts_at"],
            )
            for one in alerts
        ),
        verdicts=tuple(ToldVerdict.model_validate(verdict) for verdict in body.get("verdicts", ())),
        timeline=(Line(at=row["at"], text=f"{row['verdict']} by {row['guard']}: {row['reason']}"),),
    )


def _happened(execution: Execution, events: Sequence[Event], stage: Stage) -> str:
    told = execution.accepted
    if stage in ("started", "progress") and execution.state in ("running", "turning_back"):
        number = execution.steps_begun + len(execution.todo) - (execution.current is not None)
        title = str(execution.current) if execution.current else "the next step"
        return f"step {max(execution.steps_begun, 1)} of {number}: {title}"
    if stage == "accepted":
        return told.needs_approval or told.reason
    if stage in ENDS and execution.ended_at:
        took = format_duration(round(seconds_between(told.at, execution.ended_at), 1))
        last = next((e.note for e in reversed(events) if isinstance(e, Done) and e.note), "")
        why = last if execution.outcome == "succeeded" and last else execution.reason
        return f"after {took}: {why or told.reason}"
    return execution.reason or told.reason


def _steps(execution: Execution, events: Sequence[Event]) -> tuple[ToldStep, ...]:
    steps: list[ToldStep] = []
    for event in events:
        match event:
            case Started():
                steps.append(ToldStep(title=event.title, state="under way"))
            case Done() if steps:
                steps[-1] = steps[-1].model_copy(update={"state": "done", "note": event.note})
            case Halted() | StoppedEvent() | GaveUp() if steps and steps[-1].state == "under way":
                steps[-1] = steps[-1].model_copy(update={"state": "failed", "note": event.reason})
    left = execution.todo[1:] if execution.current else execution.todo
    return (*steps, *(ToldStep(title=str(step), state="to do") for step in left))


def _lines(events: Sequence[Event]) -> list[Line]:
    lines = []
    for event in events:
        match event:
            case Accepted():
                text = f"accepted: {event.reason}"
            case Held():
                text = f"waits for approval: {event.reason}"
            case Kept():
                text = f"evidence: {event.note}"
            case Approved():
                text = f"approved by {event.by}"
            case Started():
                text = f"begun: {event.title}"
            case Done() if event.note:
                text = f"done: {event.note}"
            case Halted():
                text = f"halted: {event.reason}"
            case StoppedEvent():
                text = f"stopped by {event.by}: {event.reason}"
            case GaveUp():
                text = f"given up: {event.reason}"
            case Closed():
                text = f"closed as {event.outcome} by {event.by}" + (f": {event.reason}" if event.reason else "")
            case _:
                continue
        lines.append(Line(at=event.at, text=text))
    return lines


def _evidence(execution: Execution) -> tuple[str, ...]:
    kept = execution.kept
    if kept is None:
        return ()
    return (kept.note, f"{kept.place} (responder evidence {execution.id})") if kept.place else (kept.note,)


def _command(execution: Execution) -> str:
    match execution.state:
        case "held" if execution.plan:
            return f"responder approve {execution.id} --plan {execution.plan.hash}"
        case "stuck":
            return f'responder close {execution.id} --reason "…"'
        case "closed":
            return f"responder history {execution.id}"
    return f"responder stop {execution.id}"

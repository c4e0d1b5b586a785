"""Renders a notification from the record: of an execution after some of its events, or of a decision."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from foundation.durations import format_duration
from responder.config.text import one_line
from responder.notify.notification import Notification, NotifiedAlert, NotifiedGuardResult, NotifiedStep, ProgressLine
from responder.rollback.events import (
    Accepted,
    ApprovalRequested,
    Approved,
    Closed,
    Event,
    EvidenceCollected,
    RetriesExhausted,
    StepCompleted,
    StepFailed,
    StepStarted,
    StopRequested,
)
from responder.rollback.execution import Execution, fold, seconds_between
from responder.rollback.stages import ENDS, Stage


def severity_of(alerts: Sequence[dict[str, str]], order: Sequence[str]) -> str:
    """The most severe `severity` label by `order`. A label that is not in `order` wins. Empty if there is none."""
    found = [labels["severity"] for labels in alerts if labels.get("severity")]
    unknown = [severity for severity in found if severity not in order]
    return unknown[0] if unknown else min(found, key=order.index, default="")


def notification_of(
    execution_id: str,
    events: Sequence[Event],
    stage: Stage,
    *,
    occasion: str,
    at: datetime,
    severities: Sequence[str],
    guard_results: Sequence[dict[str, str]] = (),
) -> Notification:
    """The notification about an execution after these events."""
    execution = fold(execution_id, list(events))
    accepted = execution.accepted
    started = [event.at for event in events if isinstance(event, StepStarted)]
    return Notification(
        subject=execution_id,
        occasion=occasion,
        stage=stage,
        at=at,
        service=accepted.service,
        environment=accepted.environment,
        policy=accepted.policy,
        reason=accepted.reason,
        happened=_happened(execution, events, stage),
        severity=severity_of([alert.labels for alert in accepted.alerts], severities),
        strategy=accepted.strategy,
        from_version=accepted.from_version,
        to_version=accepted.to_version,
        requested_by=accepted.requested_by,
        outcome=execution.outcome or "",
        accepted_at=accepted.at,
        started_at=started[0] if started else None,
        ended_at=execution.ended_at,
        approve_before=execution.approve_before if execution.state == "awaiting_approval" else None,
        steps=_steps(execution, events),
        notes=execution.plan.notes if execution.plan else (),
        remains=tuple(map(str, execution.plan.mitigations)) if execution.plan and stage == "mitigated" else (),
        alerts=tuple(_alert(alert.labels, alert.annotations, alert.starts_at) for alert in accepted.alerts[:20]),
        guard_results=tuple(NotifiedGuardResult.model_validate(result) for result in guard_results),
        timeline=tuple(_lines(events)),
        evidence=_evidence(execution),
        command=_command(execution),
    )


def notification_of_decision(
    row: dict[str, Any], stage: Stage, *, occasion: str, severities: Sequence[str]
) -> Notification:
    """The notification about a decision that led to no execution. `row`: its row, with `body` decoded."""
    alerts, body = row["body"].get("alerts", []), row["body"]
    return Notification(
        subject=row["id"],
        occasion=occasion,
        stage=stage,
        at=row["at"],
        service=row["service"],
        environment=row["environment"],
        policy=row["policy"],
        reason=", ".join(sorted({alert["labels"].get("alertname", "") for alert in alerts})) or row["reason"],
        happened=row["reason"],
        severity=severity_of([alert["labels"] for alert in alerts], severities),
        from_version=(body.get("running") or {}).get("version", ""),
        to_version=(body.get("target") or {}).get("version", ""),
        accepted_at=row["at"],
        alerts=tuple(_alert(alert["labels"], alert.get("annotations", {}), alert["starts_at"]) for alert in alerts),
        guard_results=tuple(NotifiedGuardResult.model_validate(result) for result in body.get("guard_results", ())),
        timeline=(ProgressLine(at=row["at"], text=f"{row['result']} by {row['guard']}: {row['reason']}"),),
    )


def _alert(labels: dict[str, str], annotations: dict[str, str], starts_at: Any) -> NotifiedAlert:
    return NotifiedAlert(
        name=labels.get("alertname", ""),
        severity=labels.get("severity", ""),
        summary=one_line(annotations.get("summary", "")),
        labels=labels,
        starts_at=starts_at,
    )


def _happened(execution: Execution, events: Sequence[Event], stage: Stage) -> str:
    accepted = execution.accepted
    if stage in ("started", "progress") and execution.state in ("running", "reverting"):
        number = execution.steps_started + len(execution.todo) - (execution.current is not None)
        title = str(execution.current) if execution.current else "the next step"
        return f"step {max(execution.steps_started, 1)} of {number}: {title}"
    if stage == "accepted":
        return accepted.approval_reason or accepted.reason
    if stage in ENDS and execution.ended_at:
        took = format_duration(round(seconds_between(accepted.at, execution.ended_at), 1))
        last = next((e.note for e in reversed(events) if isinstance(e, StepCompleted) and e.note), "")
        why = last if execution.outcome == "succeeded" and last else execution.reason
        return f"after {took}: {why or accepted.reason}"
    return execution.reason or accepted.reason


def _steps(execution: Execution, events: Sequence[Event]) -> tuple[NotifiedStep, ...]:
    steps: list[NotifiedStep] = []
    for event in events:
        match event:
            case StepStarted():
                steps.append(NotifiedStep(title=event.title, state="running"))
            case StepCompleted() if steps:
                steps[-1] = steps[-1].model_copy(update={"state": "done", "note": event.note})
            case StepFailed() | StopRequested() | RetriesExhausted() if steps and steps[-1].state == "running":
                steps[-1] = steps[-1].model_copy(update={"state": "failed", "note": event.reason})
    left = execution.todo[1:] if execution.current else execution.todo
    return (*steps, *(NotifiedStep(title=str(step), state="pending") for step in left))


def _lines(events: Sequence[Event]) -> list[ProgressLine]:
    lines = []
    for event in events:
        match event:
            case Accepted():
                text = f"accepted: {event.reason}"
            case ApprovalRequested():
                text = f"approval requested: {event.reason}"
            case EvidenceCollected():
                text = f"evidence: {event.note}"
            case Approved():
                text = f"approved by {event.by}"
            case StepStarted():
                text = f"step started: {event.title}"
            case StepCompleted() if event.note:
                text = f"step completed: {event.note}"
            case StepFailed():
                text = f"step failed: {event.reason}"
            case StopRequested():
                text = f"stopped by {event.by}: {event.reason}"
            case RetriesExhausted():
                text = f"retries exhausted: {event.reason}"
            case Closed():
                text = f"closed as {event.outcome} by {event.by}" + (f": {event.reason}" if event.reason else "")
            case _:
                continue
        lines.append(ProgressLine(at=event.at, text=text))
    return lines


def _evidence(execution: Execution) -> tuple[str, ...]:
    kept = execution.evidence
    if kept is None:
        return ()
    return (kept.note, f"{kept.location} (responder evidence {execution.id})") if kept.location else (kept.note,)


def _command(execution: Execution) -> str:
    match execution.state:
        case "awaiting_approval" if execution.plan:
            return f"responder approve {execution.id} --plan {execution.plan.hash}"
        case "stuck":
            return f'responder close {execution.id} --reason "…"'
        case "closed":
            return f"responder history {execution.id}"
    return f"responder stop {execution.id}"

"""A story out of what is on record: of an execution after some of its events, or of a decision that began nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

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
    Stopped,
    fold,
    seconds_between,
)
from responder.notify.story import Line, Story, ToldAlert, ToldStep, ToldVerdict
from responder.stages import ENDS, Stage
from responder.words import one_line


def severity_of(alerts: Sequence[dict[str, str]], order: Sequence[str]) -> str:
    """The most severe `severity` label; of those that the order does not know, the first; empty where there is none."""
    found = [labels["severity"] for labels in alerts if labels.get("severity")]
    unknown = [severity for severity in found if severity not in order]
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
    accepted = execution.accepted
    started = [event.at for event in events if isinstance(event, Started)]
    return Story(
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
        approve_before=execution.held_until if execution.state == "held" else None,
        steps=_steps(execution, events),
        notes=execution.plan.notes if execution.plan else (),
        remains=tuple(map(str, execution.plan.mitigations)) if execution.plan and stage == "mitigated" else (),
        alerts=tuple(
            ToldAlert(
                name=alert.name,
                severity=alert.labels.get("severity", ""),
                summary=one_line(alert.annotations.get("summary", "")),
                labels=alert.labels,
                starts_at=alert.starts_at,
            )
            for alert in accepted.alerts[:20]
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
        reason=", ".join(sorted({alert["labels"].get("alertname", "") for alert in alerts})) or row["reason"],
        happened=row["reason"],
        severity=severity_of([alert["labels"] for alert in alerts], severities),
        from_version=(body.get("running") or {}).get("version", ""),
        to_version=(body.get("target") or {}).get("version", ""),
        accepted_at=row["at"],
        alerts=tuple(
            ToldAlert(
                name=alert["labels"].get("alertname", ""),
                severity=alert["labels"].get("severity", ""),
                summary=one_line(alert.get("annotations", {}).get("summary", "")),
                labels=alert["labels"],
                starts_at=alert["starts_at"],
            )
            for alert in alerts
        ),
        verdicts=tuple(ToldVerdict.model_validate(verdict) for verdict in body.get("verdicts", ())),
        timeline=(Line(at=row["at"], text=f"{row['verdict']} by {row['guard']}: {row['reason']}"),),
    )


def _happened(execution: Execution, events: Sequence[Event], stage: Stage) -> str:
    accepted = execution.accepted
    if stage in ("started", "progress") and execution.state in ("running", "turning_back"):
        number = execution.steps_begun + len(execution.todo) - (execution.current is not None)
        title = str(execution.current) if execution.current else "the next step"
        return f"step {max(execution.steps_begun, 1)} of {number}: {title}"
    if stage == "accepted":
        return accepted.needs_approval or accepted.reason
    if stage in ENDS and execution.ended_at:
        took = format_duration(round(seconds_between(accepted.at, execution.ended_at), 1))
        last = next((e.note for e in reversed(events) if isinstance(e, Done) and e.note), "")
        why = last if execution.outcome == "succeeded" and last else execution.reason
        return f"after {took}: {why or accepted.reason}"
    return execution.reason or accepted.reason


def _steps(execution: Execution, events: Sequence[Event]) -> tuple[ToldStep, ...]:
    steps: list[ToldStep] = []
    for event in events:
        match event:
            case Started():
                steps.append(ToldStep(title=event.title, state="under way"))
            case Done() if steps:
                steps[-1] = steps[-1].model_copy(update={"state": "done", "note": event.note})
            case Halted() | Stopped() | GaveUp() if steps and steps[-1].state == "under way":
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
            case Stopped():
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
    return (kept.note, f"{kept.location} (responder evidence {execution.id})") if kept.location else (kept.note,)


def _command(execution: Execution) -> str:
    match execution.state:
        case "held" if execution.plan:
            return f"responder approve {execution.id} --plan {execution.plan.hash}"
        case "stuck":
            return f'responder close {execution.id} --reason "…"'
        case "closed":
            return f"responder history {execution.id}"
    return f"responder stop {execution.id}"

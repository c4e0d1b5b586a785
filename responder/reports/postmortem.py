"""The post-mortem draft of one rollback, from the journal only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import pairwise

from foundation.durations import format_duration
from responder.config.text import counted
from responder.reports.record import ExecutionRecord, Moment, PostMortem, ReportedChange, Stage, Window
from responder.rollback.events import (
    Accepted,
    ApprovalRequested,
    Approved,
    Closed,
    Event,
    EvidenceCollected,
    Planned,
    Resumed,
    RetriesExhausted,
    StepCompleted,
    StepFailed,
    StepStarted,
    StopRequested,
)
from responder.rollback.execution import Execution, fold
from responder.rollback.plan import Change

_SLOW_TO_FIRE = 60.0


def make_postmortem(record: ExecutionRecord) -> PostMortem:
    """The draft. Raises ValueError if the first event is not `Accepted`."""
    execution = fold(record.id, list(record.events))
    accepted, window = execution.accepted, _window(record, execution)
    began = window.onset_at or window.firing_at
    return PostMortem(
        id=record.id,
        service=accepted.service,
        environment=accepted.environment,
        strategy=accepted.strategy,
        policy=accepted.policy,
        requested_by=accepted.requested_by,
        from_version=accepted.from_version,
        to_version=accepted.to_version,
        state=execution.state,
        outcome=execution.outcome,
        summary=_summary(execution, window),
        impact_seconds=(window.ended_at - began).total_seconds() if began and window.ended_at else None,
        window=window,
        stages=list(_stages(window, execution)),
        timeline=sorted(_timeline(record, window), key=lambda moment: moment.at),
        changes=list(_changes(record)),
        guard_results=list(record.guard_results),
        alerts=list(accepted.alerts),
        left_to_do=list(_left(record, execution)),
        questions=list(_questions(record, execution, window)),
    )


def _window(record: ExecutionRecord, execution: Execution) -> Window:
    accepted = execution.accepted
    return Window(
        deployed_at=record.deployed.at if record.deployed else None,
        onset_at=accepted.onset_at,
        firing_at=min((alert.starts_at for alert in accepted.alerts), default=None),
        received_at=accepted.received_at,
        accepted_at=accepted.at,
        acted_at=next((at for at, change in _begun(record) if isinstance(change, Change)), None),
        ended_at=execution.ended_at,
    )


def _begun(record: ExecutionRecord) -> Iterator[tuple[datetime, object]]:
    """When each step started, and the step."""
    execution: Execution | None = None
    for event in record.events:
        if execution is None:
            execution = fold(record.id, [event])
            continue
        if isinstance(event, StepStarted):
            yield event.at, execution.todo[0]
        execution = execution.after(event)


def _stages(window: Window, execution: Execution) -> Iterator[Stage]:
    last = "acted → verified" if execution.outcome == "succeeded" else "acted → ended"
    moments = (
        ("", window.onset_at),
        ("onset → firing", window.firing_at),
        ("firing → received", window.received_at if window.firing_at else None),
        ("received → accepted", window.accepted_at),
        ("accepted → acted", window.acted_at),
        (last, window.ended_at),
    )
    known = [(name, at) for name, at in moments if at is not None]
    for (_, start), (name, end) in pairwise(known):
        yield Stage(name=name, seconds=max((end - start).total_seconds(), 0.0))


def _summary(execution: Execution, window: Window) -> str:
    accepted = execution.accepted
    versions = f"from {accepted.from_version} to {accepted.to_version}"
    who = accepted.requested_by if accepted.forced else f"policy {accepted.policy}"
    took = ""
    if window.ended_at:
        took = f" within {format_duration((window.ended_at - window.accepted_at).total_seconds() // 1)}"
    head = f"{accepted.reason}: {who} requested a rollback of {accepted.service} in {accepted.environment} {versions}."
    match execution.outcome or execution.state:
        case "succeeded":
            return f"{head} It succeeded and was verified{took}."
        case "reverted":
            return f"{head} It failed, and its changes were reverted{took}: {execution.reason}"
        case "cancelled":
            return f"{head} It was cancelled{took}: {execution.reason}"
        case "failed":
            return f"{head} It failed{took}: {execution.reason}"
        case "stuck":
            return f"{head} It is stuck and needs a human: {execution.reason}"
        case "awaiting_approval":
            return f"{head} The plan awaits approval: {execution.reason}"
    return f"{head} It is in progress."


def _timeline(record: ExecutionRecord, window: Window) -> Iterator[Moment]:
    if record.deployed:
        deployed = record.deployed
        detail = f"{deployed.version} ({deployed.id}, reported by {deployed.recorded_by})"
        yield Moment(at=deployed.at, what="deployed", detail=detail)
    if window.onset_at:
        yield Moment(at=window.onset_at, what="onset", detail="the alert's expression became true")
    if window.firing_at:
        yield Moment(at=window.firing_at, what="firing", detail="the first alert")
    yield Moment(at=window.received_at, what="received", detail="by the responder")
    for decision in record.decisions:
        if decision.execution == record.id:
            continue  # shown as `accepted`
        times = f", {decision.times} times" if decision.times > 1 else ""
        detail = f"policy {decision.policy or '(none)'}, by {decision.guard}{times}: {decision.reason}"
        yield Moment(at=decision.at, what=f"decided: {decision.result}", detail=detail)
    for event in record.events:
        yield Moment(at=event.at, what=event.type.replace("_", " "), detail=_detail(event))


def _detail(event: Event) -> str:
    match event:
        case Accepted():
            return event.approval_reason or event.reason
        case Planned():
            return f"{event.plan.hash}: {counted(len(event.plan.steps), 'step')}"
        case Approved():
            return f"by {event.by}"
        case Resumed():
            return f"by {event.worker}"
        case StepStarted():
            return f"step {event.step + 1}: {event.title}"
        case StepCompleted():
            note = f": {event.note}" if event.note else ""
            return f"step {event.step + 1}{'' if event.changed else ', nothing to change'}{note}"
        case StepFailed():
            who = f" (by {event.reverted_by})" if event.reverted_by else ""
            return f"{'' if event.step is None else f'step {event.step + 1}: '}{event.reason}{who}"
        case StopRequested():
            return f"by {event.by}: {event.reason}"
        case Closed():
            return f"{event.outcome}, by {event.by}{f': {event.reason}' if event.reason else ''}"
        case ApprovalRequested() | RetriesExhausted():
            return event.reason
        case EvidenceCollected():
            return event.note
    return ""


def _changes(record: ExecutionRecord) -> Iterator[ReportedChange]:
    """Every change that started, with its result."""
    ends = [
        event for event in record.events if isinstance(event, StepCompleted | StepFailed) and event.step is not None
    ]
    numbers = [event.step for event in record.events if isinstance(event, StepStarted)]
    for number, (_, change) in zip(numbers, _begun(record), strict=True):
        if not isinstance(change, Change):
            continue
        end = next((event for event in ends if event.step == number), None)
        yield ReportedChange(
            resource=str(change.resource),
            before=change.resource.describe(change.before),
            after=change.resource.describe(change.after),
            reverting=change.reverting,
            effect=end.changed if isinstance(end, StepCompleted) else None,
        )


def _left(record: ExecutionRecord, execution: Execution) -> Iterator[str]:
    accepted = execution.accepted
    if execution.state == "stuck":
        yield f'Bring {accepted.service} into the intended state, then: responder close {record.id} --reason "…"'
    if execution.state == "awaiting_approval":
        yield f"Approve or stop it: responder approve {record.id}"
    for version in record.versions:
        if version.version not in (accepted.from_version, accepted.to_version):
            continue
        if version.status == "bad":
            yield (
                f"Fix or withdraw {version.version}, which is bad ({version.reason}): if it is deployed again, it is "
                "not rolled back automatically a second time"
            )
        elif version.status == "suspect":
            yield f"Find out whether {version.version} works: it is suspect ({version.reason})"
    if execution.plan:
        yield from execution.plan.notes
        if execution.plan.irreversible and execution.changed:
            yield f"This cannot be undone: {execution.plan.irreversible}"


def _questions(record: ExecutionRecord, execution: Execution, window: Window) -> Iterator[str]:
    accepted = execution.accepted
    yield from _about_the_outcome(record, execution)
    yield f"What did {accepted.from_version} do that a rollback does not undo, such as written data or sent messages?"
    yield "Which users were affected, how many, and were they informed?"
    yield from _about_the_detection(record, accepted, window)
    for event in record.events:
        match event:
            case StopRequested():
                yield f"Why did {event.by} stop it ({event.reason})?"
            case StepFailed(drift=True):
                yield f"Who changed the resource during the rollback, and why ({event.reason})?"
    if resumed := sum(isinstance(event, Resumed) for event in record.events):
        yield f"Why was the responder interrupted ({counted(resumed, 'time')})?"


def _about_the_outcome(record: ExecutionRecord, execution: Execution) -> Iterator[str]:
    accepted = execution.accepted
    if execution.outcome == "succeeded":
        yield f"What was wrong with {accepted.from_version}, and why was it not found before the deployment?"
    elif execution.verification_failed and any(isinstance(e, StepFailed) and e.inconclusive for e in record.events):
        yield f"Why did the checks of {accepted.service} not answer? It is unknown whether it recovered."
    elif execution.verification_failed:
        yield f"{accepted.service} did not recover after all changes: what else had changed?"
    elif execution.outcome in ("failed", "reverted"):
        yield f"Why did the rollback fail ({execution.reason}), and what ended the trouble instead?"


def _about_the_detection(record: ExecutionRecord, accepted: Accepted, window: Window) -> Iterator[str]:
    if accepted.forced:
        yield "Why did no policy act automatically, and should one?"
    elif window.onset_at is None:
        yield "When did the trouble begin? Prometheus has no data."
    elif window.firing_at and (window.firing_at - window.onset_at).total_seconds() > _SLOW_TO_FIRE:
        late = format_duration((window.firing_at - window.onset_at).total_seconds() // 1)
        yield f"The alert fired {late} after the onset: can it fire sooner?"
    if waited := _waited_for_approval(record.events):
        yield f"It waited {format_duration(waited // 1)} for approval: can the policy act automatically?"


def _waited_for_approval(events: Sequence[Event]) -> float:
    held = next((event.at for event in events if isinstance(event, ApprovalRequested)), None)
    approved = next((event.at for event in events if isinstance(event, Approved)), None)
    return (approved - held).total_seconds() if held and approved else 0.0

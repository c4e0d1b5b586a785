"""Accepts an execution and appends its events, each with its consequences for versions, apps and notifications.

All of it is one transaction: the bad version is marked exactly when the rollback succeeds.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

from responder.journal import Transaction, deployments, executions, outbox
from responder.journal.deployments import Deployment, Status
from responder.rollback.events import Accepted, Closed, Event, RetriesExhausted, StepFailed, StepStarted
from responder.rollback.execution import Execution
from responder.rollback.plan import Change, Mitigation
from responder.rollback.stages import stage_of
from responder.services import client_rules, registry


class VersionMark(NamedTuple):
    """A new status of a version of a service."""

    service: str
    version: str
    status: Status
    reason: str


class Consequences(NamedTuple):
    """What an event changes besides its execution."""

    marks: tuple[VersionMark, ...] = ()
    restored: tuple[tuple[Deployment, str], ...] = ()  # deployments that the rollback made, and the version before each
    mitigations: tuple[Mitigation, ...] = ()
    releases_alerts: bool = False  # the alerts that opened it may open another one
    holds_services: bool = False  # no other decision about its services until the transaction ends

    def mitigated(self, service: str) -> set[tuple[str, str]]:
        """The (service, platform) pairs that could not be reverted. `service` is the default of a mitigation."""
        return {(mitigation.service or service, mitigation.platform) for mitigation in self.mitigations}


def consequences(execution: Execution, event: Event) -> Consequences:
    """What follows from an event. `execution` is the state after it."""
    match event:
        case Closed(outcome="succeeded" | "mitigated"):
            mitigations = execution.plan.mitigations if execution.plan and event.outcome == "mitigated" else ()
            return _of_success(execution, event)._replace(mitigations=tuple(mitigations))
        case Closed():
            releases = execution.cancelled_by_guard and not execution.changed
            return Consequences(releases_alerts=releases, holds_services=True)
        case StepFailed() | RetriesExhausted():
            return Consequences(marks=tuple(_suspects(execution, event)), holds_services=True)
    return Consequences()


def _of_success(execution: Execution, event: Closed) -> Consequences:
    accepted = execution.accepted
    why = f"rolled back by {execution.id}: {accepted.reason}"
    restored = []
    for part in accepted.parts:
        prefix = execution.id if part.service == accepted.service else f"{execution.id}-{part.service}"
        deployment = Deployment(
            id=f"{prefix}-back",
            service=part.service,
            environment=accepted.environment,
            version=part.to_version,
            at=event.at,
            recorded_by="responder",
            rolled_back_by=execution.id,
        )
        restored.append((deployment, part.from_version))
    marks = tuple(VersionMark(part.service, part.from_version, "bad", why) for part in accepted.parts)
    return Consequences(marks=marks, restored=tuple(restored), holds_services=True)


def _suspects(execution: Execution, event: StepFailed | RetriesExhausted) -> list[VersionMark]:
    """Both versions, if the services did not recover. Drift and unanswered checks are no evidence against a version."""
    inconclusive = isinstance(event, StepFailed) and (event.drift or event.inconclusive)
    if not execution.verification_failed or inconclusive:
        return []
    parts = execution.accepted.parts
    why = f"{' and '.join(part.service for part in parts)} did not recover after {execution.id}"
    return [
        VersionMark(part.service, version, "suspect", why)
        for part in parts
        for version in (part.from_version, part.to_version)
    ]


async def accept(tx: Transaction, execution_id: str, accepted: Accepted) -> Execution:
    """Records a new execution and its first notification.

    Raises Conflict, and records nothing, if the service has a live or stuck rollback, or if one of the alerts opened a
    rollback of this deployment before.
    """
    execution = await executions.insert(tx, execution_id, accepted)
    await _notify(tx, execution, accepted)
    tx.notify()
    return execution


async def append(tx: Transaction, execution: Execution, events: Collection[Event], worker: str | None) -> Execution:
    """Appends events with their consequences, and returns the execution after them.

    Raises LeaseLost if another worker owns the execution or has written first.
    """
    acted_at: datetime | None = None
    notable: tuple[Execution, Event] | None = None
    for event in events:
        acted_at = acted_at or _acted_at(execution, event)
        execution = execution.after(event)
        await executions.append_event(tx, execution, event)
        # Before the execution is updated: decisions take the lock of the service first as well.
        await _follow(tx, execution, event)
        if stage_of(event, execution):
            notable = (execution, event)
    if notable:  # of several events, only the last one, which is the current state
        await _notify(tx, *notable)
    await executions.update(tx, execution, worker, acted_at=acted_at)
    return execution


def _acted_at(execution: Execution, event: Event) -> datetime | None:
    """When a change started, if the event starts one."""
    starts_change = isinstance(event, StepStarted) and execution.todo and isinstance(execution.todo[0], Change)
    return event.at if starts_change else None


async def _notify(tx: Transaction, execution: Execution, event: Event) -> None:
    if stage := stage_of(event, execution):
        await outbox.add(tx, outbox.News(execution.id, execution.seq, stage, event.at))


async def _follow(tx: Transaction, execution: Execution, event: Event) -> None:
    accepted, follows = execution.accepted, consequences(execution, event)
    if follows.releases_alerts:
        await tx.all("release_opening_alerts", execution=execution.id)
    if follows.holds_services:
        await deployments.hold(tx, *((part.service, accepted.environment) for part in accepted.parts))
    for mark in follows.marks:
        await registry.mark(tx, mark.service, accepted.environment, mark.version, mark.status, mark.reason, event.at)
    for restored, before in follows.restored:
        await registry.record(tx, restored)
        await registry.record_reverted_platforms(tx, restored, before, follows.mitigated(accepted.service))
    await client_rules.mitigate(tx, follows.mitigations, accepted.service, accepted.environment, execution.id, event.at)

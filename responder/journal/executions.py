"""Executions in the journal: inserted once, extended behind a fence, and claimed under a lease."""

from __future__ import annotations

import json
import socket
import uuid
from collections.abc import Collection
from datetime import datetime, timedelta

from pydantic import TypeAdapter

from responder.config.permitted import EVERYTHING, Permitted
from responder.errors import Conflict, LeaseLost, Unknown
from responder.journal.database import END_OF_TIME, EPOCH, Row, Transaction, narrow
from responder.rollback.events import (
    Accepted,
    Event,
    Resumed,
    StepCompleted,
    StepFailed,
    StepStarted,
    note_of,
)
from responder.rollback.execution import Execution, begin, fold, seconds_between

_EVENT: TypeAdapter[Event] = TypeAdapter(Event)

_HANDING_OVER = timedelta(seconds=5)
"""How long only the accepting worker may run a new execution. After that, any worker can claim it."""


def new_id(at: datetime) -> str:
    """A new ID that starts with the time and sorts by it, for example `20261123-231500-4f2a9c1b`."""
    return f"{at:%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:8]}"


async def insert(tx: Transaction, execution_id: str, accepted: Accepted) -> Execution:
    """Records a new execution. Raises Conflict, and records nothing, if the schema refuses it:

    the service has a live or stuck rollback, or one of the alerts opened a rollback of this deployment before.
    """
    firing = min((alert.starts_at for alert in accepted.alerts), default=None)
    inserted = await tx.first(
        "insert_execution",
        id=execution_id,
        service=accepted.service,
        environment=accepted.environment,
        policy=accepted.policy,
        strategy=accepted.strategy,
        from_version=accepted.from_version,
        to_version=accepted.to_version,
        requested_by=accepted.requested_by,
        reason=accepted.reason,
        onset_at=accepted.onset_at,
        firing_at=firing,
        accepted_at=accepted.at,
    )
    if inserted is None:
        raise Conflict(f"{accepted.service} in {accepted.environment} is already being rolled back")
    for part in accepted.parts:
        values = part.model_dump(include={"service", "strategy", "from_version", "to_version"})
        where = {"execution": execution_id, "environment": accepted.environment, "accepted_at": accepted.at}
        if not await tx.first("insert_part", **where, **values):
            raise Conflict(f"{part.service} in {accepted.environment} is already being rolled back")
    for alert in accepted.alerts:
        if not await tx.first(
            "insert_opening_alert",
            policy=accepted.policy,
            service=accepted.service,
            environment=accepted.environment,
            fingerprint=alert.fingerprint,
            starts_at=alert.starts_at,
            deployed_at=accepted.deployed_at or accepted.at,
            execution=execution_id,
            alertname=_text(alert.name),
            labels=json.dumps(alert.labels, ensure_ascii=False, sort_keys=True),
            summary=_text(alert.annotations.get("summary", "")),
            generator_url=_text(alert.generator_url),
        ):
            raise Conflict(f"the alert {alert.name} already opened a rollback")
    execution = begin(execution_id, accepted)
    await append_event(tx, execution, accepted)
    return execution


async def update(
    tx: Transaction, execution: Execution, worker: str | None, *, acted_at: datetime | None = None
) -> None:
    """Writes the state after the events that were appended. Raises LeaseLost if another worker owns the execution."""
    ended = execution.ended_at
    updated = await tx.first(
        "update_execution",
        id=execution.id,
        worker=worker,
        state=execution.state,
        outcome=execution.outcome,
        reason=execution.reason or execution.accepted.reason,
        seq=execution.seq,
        changed=execution.changed,
        plan_hash=execution.plan.hash if execution.plan else None,
        acted_at=acted_at,
        ended_at=ended,
        duration=seconds_between(execution.accepted.at, ended) if ended else None,
    )
    if updated is None:
        raise LeaseLost(f"execution {execution.id} now belongs to another worker")
    if execution.state == "closed":
        await tx.all("release_parts", execution=execution.id)
    if worker is None or not execution.live:
        tx.notify()


async def append_event(tx: Transaction, execution: Execution, event: Event) -> None:
    """Appends the event that led to `execution`. Raises LeaseLost if another worker has written this number."""
    step = event.step if isinstance(event, StepStarted | StepCompleted | StepFailed) else None
    title = event.title if isinstance(event, StepStarted) else None
    written = await tx.first(
        "append_event",
        execution=execution.id,
        seq=execution.seq,
        at=event.at,
        type=event.type,
        state=execution.state,
        step=step,
        title=title,
        note=note_of(event),
        body=event.model_dump_json(),
    )
    if written is None:
        raise LeaseLost(f"another worker has written event {execution.seq} of execution {execution.id}")


def _text(text: str) -> str:
    """The text without NUL, which PostgreSQL cannot store: text in an alert must not prevent a rollback."""
    return text.replace("\0", "")


async def load(tx: Transaction, execution_id: str) -> Execution:
    """The state of an execution, from its events. Raises Unknown."""
    return fold(execution_id, await events_of(tx, execution_id))


async def events_of(tx: Transaction, execution_id: str) -> list[Event]:
    rows = await tx.all("events_of", execution=execution_id)
    if not rows:
        row = await tx.first("execution", id=execution_id)
        archived = row and f"the events of execution {execution_id} were archived in {row['archived_in']}"
        raise Unknown(archived or f"execution {execution_id} does not exist")
    return [_EVENT.validate_json(row["body"]) for row in rows]


async def events_after(tx: Transaction, execution_id: str, seq: int, most: int = 1000) -> list[Event]:
    """The events after that number, at most `most`."""
    rows = await tx.all("events_after", execution=execution_id, seq=seq, most=most)
    return [_EVENT.validate_json(row["body"]) for row in rows]


async def heads(tx: Transaction, since: datetime, *more: str) -> dict[str, Row]:
    """`seq` and `ended_at` of every execution that is open, was accepted since then, or is in `more`."""
    found = {row["id"]: row for row in await tx.all("execution_heads", since=since)}
    for execution_id in more:
        if execution_id not in found and (row := await tx.first("execution", id=execution_id)):
            found[execution_id] = row
    return found


async def ended_since(tx: Transaction, since: datetime, most: int = 1000) -> list[str]:
    return [row["id"] for row in await tx.all("ended_since", since=since, most=most)]


async def accepted(tx: Transaction, execution_id: str) -> Accepted:
    """The first event. Raises Unknown."""
    row = await tx.first("first_event", execution=execution_id)
    if row is None:
        raise Unknown(f"execution {execution_id} does not exist")
    return Accepted.model_validate_json(row["body"])


async def claim(
    tx: Transaction, worker: str, at: datetime, *, concurrent: int, running: Collection[str]
) -> tuple[list[tuple[Execution, int]], dict[str, ValueError]]:
    """Claims every interrupted execution, and as many new ones as `concurrent` allows across all replicas.

    Returns each with the number of its resumptions. An interrupted one gets a `Resumed` event, whose number is the
    fence against the worker that ran it before, if that one is still alive. Executions that this version cannot read
    stay unclaimed and are returned with the error: a replica of a newer version may have written them.
    """
    await tx.lock("claim")
    counted = await tx.first("count_claimed")
    free = concurrent - (counted["n"] if counted else 0)
    taken, unreadable = [], {}
    for row in await tx.all("claimable", worker=worker):
        again = row["worker"] is not None
        if row["id"] in running or (row["worker"] == worker and at - row["accepted_at"] < _HANDING_OVER):
            continue
        try:
            execution = await load(tx, row["id"])
        except ValueError as e:
            unreadable[row["id"]] = e
            free += int(again)  # it must not block others while no newer replica runs
            continue
        if not again:  # an interrupted one kept its slot
            if free <= 0:
                break
            free -= 1
        await tx.all("claim_execution", execution=row["id"], worker=worker, again=int(again))
        if again:
            resumed = Resumed(at=at, worker=worker)
            execution = execution.after(resumed)
            await append_event(tx, execution, resumed)
            await update(tx, execution, worker)
        taken.append((execution, row["resumptions"] + again))
    return taken, unreadable


async def claim_new(tx: Transaction, execution: Execution, worker: str, *, concurrent: int) -> bool:
    """Claims an execution in the transaction that accepts it. Returns False if no slot is free."""
    await tx.lock("claim")
    counted = await tx.first("count_claimed")
    if counted and counted["n"] >= concurrent:
        return False
    await tx.all("claim_execution", execution=execution.id, worker=worker, again=0)
    return True


async def request_stop(tx: Transaction, execution_id: str, by: str, reason: str) -> None:
    """Requests a stop at the next safe point. Raises Unknown, and Conflict if it can no longer be stopped."""
    if not await tx.first("request_stop", id=execution_id, by=by, reason=reason):
        row = await tx.first("execution", id=execution_id)
        if row is None:
            raise Unknown(f"execution {execution_id} does not exist")
        raise Conflict(f"execution {execution_id} is {row['state']}: it can no longer be stopped")
    tx.notify()


async def register(tx: Transaction, worker: str, lease: float, at: datetime) -> None:
    await tx.all("forget_workers", before=at - timedelta(days=1))
    await tx.all("register_worker", worker=worker, host=socket.gethostname(), lease=lease)


async def renew(tx: Transaction, worker: str, lease: float) -> bool:
    """Renews a lease. Returns False if it has expired."""
    return await tx.first("renew_lease", worker=worker, lease=lease) is not None


async def find(
    tx: Transaction,
    *,
    service: str | None = None,
    state: str | None = None,
    since: datetime | None = None,
    before: str | None = None,
    beginning: str = "",
    most: int = 100,
    permitted: Permitted = EVERYTHING,
) -> list[Row]:
    """History rows, newest first, of the executions whose services are all permitted.

    `before`: the ID of the last row of the previous page. Raises Unknown if it does not exist.
    `beginning`: of the ID. Only `most` and `permitted` go with it.
    """
    last = await tx.first("execution", id=before) if before else None
    if before and last is None:
        raise Unknown(f"execution {before} does not exist")
    page = {"before": last["accepted_at"] if last else END_OF_TIME, "before_id": before or ""}
    where = {"state": state, "since": since or EPOCH, **page, "most": most, **permitted.parameters}
    if beginning:
        rows = await tx.all("executions_by_id", **where, id=beginning, id_end=f"{beginning}z")  # `z` sorts last
        return [row for row in rows if row["id"].startswith(beginning)]  # a collation may ignore the hyphens
    if state not in (None, "closed"):
        return await tx.all("executions_in_state", **where, service=service)
    found: dict[str, Row] = {}
    for query, narrowed in narrow("executions", service, permitted):
        found |= {row["id"]: row for row in await tx.all(query, **where, **narrowed)}
    return sorted(found.values(), key=lambda row: (row["accepted_at"], row["id"]), reverse=True)[:most]

"""Decisions with their reasons, the kill switch, and heartbeats."""

from __future__ import annotations

from datetime import datetime

from foundation.models import FrozenModel
from responder.backends.alertmanager.alerts import Timestamp
from responder.config.permitted import EVERYTHING, Permitted
from responder.journal.database import EPOCH, Row, Transaction, narrow

KILL_SWITCH = "kill_switch"


class RecordedDecision(FrozenModel):
    """A decision on an incident. `body` is a JSON document with all its facts."""

    id: str
    incident: str
    at: Timestamp
    last_at: Timestamp
    times: int = 1  # how often this guard gave the incident this result
    action: str = "roll_back"
    policy: str
    service: str
    environment: str
    result: str
    guard: str
    reason: str
    execution: str | None = None
    forced: bool = False  # a person requested it
    needs_human: bool = (
        False  # a person must take over: the denial does not lift by itself, and the trouble was visible
    )
    body: str


class KillSwitch(FrozenModel):
    """Who turned the kill switch on, when and why."""

    set_by: str
    reason: str
    at: Timestamp


async def insert(tx: Transaction, decision: RecordedDecision, *, repeated: bool = True) -> bool:
    """Records a decision. Returns False if the same result on the same incident is already recorded.

    That row is then updated; `repeated` increments its count.
    """
    values = decision.model_dump(exclude={"times", "last_at"})
    row = await tx.first("record_decision", **values, again=int(repeated))
    return row is not None and row["id"] == decision.id


async def find(
    tx: Transaction, *, service: str | None, since: datetime | None, most: int, permitted: Permitted = EVERYTHING
) -> list[Row]:
    """Newest first."""
    where = {"since": since or EPOCH, "most": most, **permitted.parameters}
    found = [
        row
        for query, narrowed in narrow("decisions", service, permitted)
        for row in await tx.all(query, **where, **narrowed)
    ]
    return sorted(found, key=lambda row: (row["last_at"], row["id"]), reverse=True)[:most]


async def record_heartbeat(tx: Transaction, name: str, at: datetime) -> None:
    """Records that a periodic signal arrived. The latest time is kept."""
    await tx.all("record_heartbeat", name=name, at=at)


async def last_heartbeat(tx: Transaction, name: str) -> datetime | None:
    row = await tx.first("last_heartbeat", name=name)
    return row["at"] if row else None


async def kill_switch(tx: Transaction) -> KillSwitch | None:
    row = await tx.first("switch", name=KILL_SWITCH)
    return KillSwitch.model_validate(row) if row else None


async def set_kill_switch(tx: Transaction, by: str, reason: str, at: datetime) -> None:
    """Turns the kill switch on: nothing starts, and running executions stop at their next safe point."""
    await tx.all("set_switch", name=KILL_SWITCH, by=by, reason=reason, at=at)
    tx.notify()


async def release_kill_switch(tx: Transaction) -> bool:
    """Turns the kill switch off. Returns False if it was not on."""
    released = await tx.first("release_switch", name=KILL_SWITCH) is not None
    tx.notify()
    return released

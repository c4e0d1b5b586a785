"""Why it acted and why it did not: every verdict with its reasons, and the switch that stops everything."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from responder.backends.alertmanager.alerts import Timestamp
from responder.config.permitted import EVERYTHING, Permitted
from responder.journal.database import Row, Transaction

KILL_SWITCH = "kill_switch"


class RecordedDecision(BaseModel):
    """One verdict on one incident, as it is kept. `body` holds all that it rests on, as JSON."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    incident: str
    at: Timestamp
    last_at: Timestamp
    times: int = 1  # how often the same verdict was given on the same incident
    action: str = "roll_back"
    policy: str
    service: str
    environment: str
    result: str
    guard: str
    reason: str
    execution: str | None = None
    forced: bool = False  # a person asked for it
    needs_human: bool = False  # a guard refused that no time lifts by itself, and the trouble was visible
    body: str


class KillSwitch(BaseModel):
    """Who stopped all automation, when and why."""

    model_config = ConfigDict(frozen=True)

    set_by: str
    reason: str
    at: Timestamp


async def insert(tx: Transaction, decision: RecordedDecision, *, repeated: bool = True) -> bool:
    """Records a decision. Returns False if the same result on the same incident is recorded already.

    That row is then updated; `repeated` increments its count.
    """
    values = decision.model_dump(exclude={"times", "last_at"})
    row = await tx.first("record_decision", **values, again=int(repeated))
    return row is not None and row["id"] == decision.id


async def find(
    tx: Transaction, *, service: str | None, since: datetime | None, most: int, permitted: Permitted = EVERYTHING
) -> list[Row]:
    """Newest first."""
    return await tx.all("decisions", service=service, since=since, most=most, **permitted.parameters)


async def record_heartbeat(tx: Transaction, name: str, at: datetime) -> None:
    """Something that is told again and again was heard; the newest time is kept."""
    await tx.all("record_heartbeat", name=name, at=at)


async def last_heartbeat(tx: Transaction, name: str) -> datetime | None:
    row = await tx.first("last_heartbeat", name=name)
    return row["at"] if row else None


async def kill_switch(tx: Transaction) -> KillSwitch | None:
    row = await tx.first("switch", name=KILL_SWITCH)
    return KillSwitch.model_validate(row) if row else None


async def set_kill_switch(tx: Transaction, by: str, reason: str, at: datetime) -> None:
    """Throws the kill switch: nothing new is begun, and what is under way stops at its next safe point."""
    await tx.all("set_switch", name=KILL_SWITCH, by=by, reason=reason, at=at)
    tx.notify()


async def release_kill_switch(tx: Transaction) -> bool:
    """Releases the kill switch; False where it was not thrown."""
    released = await tx.first("release_switch", name=KILL_SWITCH) is not None
    tx.notify()
    return released

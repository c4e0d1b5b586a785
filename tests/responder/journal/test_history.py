"""A journal of an earlier version goes on with the right counts, and a long history is read page by page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from responder.config.permitted import Permitted
from responder.errors import Unknown
from responder.journal import Database, Transaction, decisions, executions, open_journal
from responder.journal.decisions import RecordedDecision
from responder.rollback.events import Closed, Outcome, StepFailed
from responder.rollback.execution import Execution
from responder.services import rollbacks
from tests.histories import EVERY, fill
from tests.responder import examples

NEWEST = datetime(2026, 11, 23, 22, 0, tzinfo=UTC)
ROLLBACKS, SERVICES = 70, 4
_databases = count()


@pytest.fixture(params=["sqlite", "postgres"])
async def older(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The `state:` of a journal with the first schema, in use."""
    if request.param == "sqlite":
        state = f"sqlite://{tmp_path}/older.db"
    else:
        state = await request.getfixturevalue("postgres_server").database(f"older_{next(_databases)}")
    await fill(state, executions=ROLLBACKS, services=SERVICES, newest=NEWEST)
    return state


async def counted(tx: Transaction) -> dict[str, Any]:
    return {
        "outcomes": {
            row["outcome"]: row["n"] for row in await tx.all("count_by_outcome", service=None, environment=None)
        },
        "observed": {row["policy"]: (row["n"], row["last_at"]) for row in await tx.all("observed")},
        "ends": {(row["policy"], row["service"]): row["ended_at"] for row in await tx.all("last_ends")},
    }


def expected(history: list[Any], decided: list[Any]) -> dict[str, Any]:
    """The same from every row."""
    outcomes: dict[str, int] = {}
    ends: dict[tuple[str, str], datetime] = {}
    observed: dict[str, tuple[int, datetime]] = {}
    for row in reversed(history):
        outcome = row["outcome"] or "open"
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        if row["changed"] and row["ended_at"]:
            ends[row["policy"], row["service"]] = row["ended_at"]
    for row in reversed(decided):
        if (row["guard"], row["result"]) == ("mode", "deny"):
            observed[row["policy"]] = (observed.get(row["policy"], (0, None))[0] + 1, row["last_at"])
    return {"outcomes": outcomes, "observed": observed, "ends": ends}


async def everything(tx: Transaction) -> dict[str, Any]:
    history = await executions.find(tx, most=1000)
    return expected(history, await decisions.find(tx, service=None, since=None, most=1000))


async def accept(journal: Database, execution_id: str, at: datetime, **more: Any) -> Execution:
    accepted = examples.accepted(at=at, received_at=at, alerts=(), **more)
    return await journal.transaction(rollbacks.accept, execution_id, accepted)


async def close(journal: Database, execution: Execution, outcome: Outcome, at: datetime) -> None:
    closed = Closed(at=at, outcome=outcome, by="alice", reason="done")
    await journal.transaction(rollbacks.append, execution, [closed], None)


def observed(n: int, at: datetime) -> RecordedDecision:
    where = {"policy": "policy-0", "service": f"s{n}", "environment": "production"}
    what = {"result": "deny", "guard": "mode", "reason": "observe", "body": "{}"}
    return RecordedDecision(id=f"o{at:%H%M%S}", incident=f"o{n}", at=at, last_at=at, **where, **what)


async def test_an_older_journal_is_counted_once_and_goes_on(older: str) -> None:
    journal = await open_journal(older)
    try:
        assert await journal.read(counted) == await journal.read(everything)
        stuck = await accept(journal, "x1", NEWEST, service="s1", policy="policy-1")
        failed = StepFailed(at=NEWEST, reason="it failed", freeze=True)
        stuck = await journal.transaction(rollbacks.append, stuck, [failed], None)
        await accept(journal, "x2", NEWEST, service="s2", policy="policy-2")
        assert (await journal.read(counted))["outcomes"]["open"] == 2
        await close(journal, stuck, "failed", NEWEST + timedelta(minutes=1))
        for n, minutes in ((1, 1), (2, 2), (1, 3)):
            await journal.transaction(decisions.insert, observed(n, NEWEST + timedelta(minutes=minutes)))
        assert await journal.read(counted) == await journal.read(everything)
        where = {"service": "s1", "environment": "production", "policy": "policy-1"}
        assert (
            await journal.read(lambda tx: tx.first("last_success_between", **where, since=NEWEST, until=NEWEST)) is None
        )
    finally:
        await journal.close()


async def test_a_cooldown_starts_at_the_last_end_in_an_older_journal(older: str) -> None:
    journal = await open_journal(older)
    try:
        history = await journal.read(executions.find, most=1000)
        for row in history:
            where = {name: row[name] for name in ("policy", "service", "environment")}
            newest = next(
                (r["id"] for r in history if r["changed"] and all(r[name] == where[name] for name in where)), None
            )
            found = await journal.read(lambda tx, where=where: tx.first("last_of_policy", **where))
            assert (found["id"] if found else None) == newest
    finally:
        await journal.close()


async def test_pages_contain_everything_once(older: str) -> None:
    journal = await open_journal(older)
    limited, nobody = Permitted.of(["s1"], None), Permitted.of(["s1"], ["test"])
    everywhere = Permitted.of(None, ["production"])
    try:
        history = await journal.read(executions.find, most=1000)
        every = [row["id"] for row in history]
        of_one = [row["id"] for row in history if row["service"] == "s1"]
        assert len(every) == ROLLBACKS
        cases: tuple[tuple[dict[str, Any], list[str]], ...] = (
            ({}, every),
            ({"permitted": everywhere}, every),
            ({"service": "s1"}, of_one),
            ({"permitted": limited}, of_one),
            ({"permitted": nobody}, []),
            ({"state": "stuck"}, []),
            ({"state": "closed", "service": "s1"}, of_one),
            ({"since": NEWEST - EVERY * 10}, every[:10]),
        )
        for narrowed, ids in cases:
            found: list[str] = []
            while page := await journal.read(executions.find, **narrowed, most=7, before=found[-1] if found else None):
                found += [row["id"] for row in page]
            assert found == ids, narrowed
        with pytest.raises(Unknown):
            await journal.read(executions.find, before="nothing")
    finally:
        await journal.close()

"""What the journal costs with a million rollbacks in it, as a ratio to a thousand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import journals
from benchmarks.journals import States, aim_of_slowest, compare, on_both
from benchmarks.report import Table, main
from responder.decisions.fleet import collect_fleet_state
from responder.decisions.journal_facts import gather
from responder.journal import Database, Transaction, decisions, executions, open_journal, outbox
from responder.runtime.journal_metrics import take_snapshot
from responder.web.status import read_status
from tests.histories import fill
from tests.registries import seed
from tests.responder import examples

_SERVICES = 200
_POLICIES = examples.policy_set(services=tuple(examples.service(f"s{n}") for n in range(_SERVICES)))
Read = Callable[[Transaction, datetime], Awaitable[Any]]


async def _decision(tx: Transaction, now: datetime) -> None:
    """Everything that the guards ask the journal."""
    labels = {**examples.LABELS, "service": "s7"}
    incident = examples.incident(service="s7", alerts=(examples.alert(labels, starts_at=now),))
    facts = await gather(tx, incident, _POLICIES, now)
    assert facts.service and facts.latest and facts.target
    await collect_fleet_state(tx, incident, facts.service, _POLICIES, now)


async def _loops(tx: Transaction, now: datetime) -> None:
    """What each replica asks every second."""
    await tx.first("count_claimed")
    await tx.all("claimable", worker="w")
    await tx.all("open_executions")
    await outbox.undelivered(tx, now)
    await tx.all("decisions_to_revisit", since=now - timedelta(hours=1), most=4000)
    await executions.heads(tx, now - timedelta(minutes=5))


async def _status(tx: Transaction, now: datetime) -> None:
    await read_status(tx, _POLICIES, now, _POLICIES.services)


async def _scrape(tx: Transaction, now: datetime) -> None:
    await take_snapshot(tx, _POLICIES, now)


async def _history(tx: Transaction, now: datetime) -> None:
    await executions.find(tx, most=20)
    await decisions.find(tx, service=None, since=None, most=20)


async def _history_of_a_service(tx: Transaction, now: datetime) -> None:
    await executions.find(tx, service="s7", most=4)
    await decisions.find(tx, service="s7", since=None, most=4)


async def _one(tx: Transaction, now: datetime) -> None:
    newest = (await executions.find(tx, most=1))[0]["id"]
    await executions.load(tx, newest)
    await tx.first("decision_of_execution", execution=newest)
    await tx.all("messages_of", subject=newest)


READS: dict[str, Read] = {
    "decision (what the guards ask)": _decision,
    "background loops (each second)": _loops,
    "`/api/v1/status`": _status,
    "`/metrics`": _scrape,
    "`history`": _history,
    "`history` of a service": _history_of_a_service,
    "`history ID`": _one,
}


def _at_its_time(read: Read) -> journals.Read:
    return lambda journal: journal.read(read, journal.now())


async def _grown(state: str, rollbacks: int) -> Database:
    await fill(state, executions=rollbacks, services=_SERVICES)
    journal = await open_journal(state)
    await seed(state, services=_SERVICES, each=20)
    return journal


async def _database(name: str, states: States, quick: bool) -> Table:
    rollbacks, times = (100_000, 20) if quick else (1_000_000, 60)
    table = Table(
        f"The journal, {name}: p50 with {rollbacks:,} rollbacks of {_SERVICES} services",
        ("", "1,000 rollbacks (ms)", f"{rollbacks:,} (ms)", "ratio"),
    )
    few, many = await _grown(await states("few"), 1000), await _grown(await states("many"), rollbacks)
    reads = {label: _at_its_time(read) for label, read in READS.items()}
    await compare(table, reads, few, many, times)
    for journal in (few, many):
        await journal.close()
    aim_of_slowest(table, f"slowest read of a long history, {name}")
    return table


def run(quick: bool, beside: Path | None) -> list[Table]:
    return asyncio.run(on_both(partial(_database, quick=quick), durable=False))


if __name__ == "__main__":
    main(run)

"""Transactions of a storm give way to all others, and to other tasks of the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from responder.journal import Bulk, Database, Transaction, open_journal
from responder.journal.decisions import kill_switch
from tests.journals import in_file


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[Database]:
    """A journal with one writer."""
    opened = await open_journal(in_file(tmp_path))
    yield opened
    await opened.close()


@pytest.fixture
async def postgres(postgres_server: Any) -> AsyncIterator[Database]:
    opened = await open_journal(await postgres_server.database("bulk"), lease=60.0)
    yield opened
    await opened.close()


async def test_bulk_transactions_run_when_no_others_wait(sqlite: Database) -> None:
    order: list[str] = []

    async def note(tx: Transaction, name: str) -> str:
        order.append(name)
        return name

    storm = [asyncio.create_task(Bulk(sqlite).transaction(note, f"alert {n}")) for n in range(200)]
    other = asyncio.create_task(sqlite.transaction(note, "stop"))
    assert await asyncio.gather(*storm, other) == [*(f"alert {n}" for n in range(200)), "stop"]
    assert order == ["stop", *(f"alert {n}" for n in range(200))]


async def test_bulk_transactions_leave_sessions_for_others(postgres: Database) -> None:
    held, released = asyncio.Event(), asyncio.Event()

    async def hold(tx: Transaction) -> None:
        await tx.lock("service")
        held.set()
        await released.wait()

    async def wait(tx: Transaction) -> None:
        await tx.lock("service")

    holding = asyncio.create_task(postgres.transaction(hold))
    await held.wait()
    storm = [asyncio.create_task(Bulk(postgres).transaction(wait)) for _ in range(20)]
    async with asyncio.timeout(60):
        assert await postgres.transaction(kill_switch) is None
        assert await postgres.read(kill_switch) is None
    released.set()
    await asyncio.gather(holding, *storm)


async def test_a_failed_bulk_transaction_tells_its_caller(journal: Database) -> None:
    async def fails(tx: Transaction) -> None:
        raise LookupError("half way")

    with pytest.raises(LookupError, match="half way"):
        await Bulk(journal).transaction(fails)


def counting() -> tuple[Callable[[], int], asyncio.Task[None]]:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    return lambda: turns, asyncio.create_task(count())


async def test_other_tasks_run_during_a_long_transaction(sqlite: Database) -> None:
    during: list[int] = []

    async def many(tx: Transaction) -> None:
        for _ in range(10_000):
            await kill_switch(tx)
            during.append(turns())

    turns, task = counting()
    await sqlite.transaction(many)
    task.cancel()
    assert len(set(during)) > 2


async def test_a_transaction_awaits_nothing_else(sqlite: Database) -> None:
    async def sleeps(tx: Transaction) -> None:
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="something other than its own statements"):
        await sqlite.transaction(sleeps)
    assert await sqlite.transaction(kill_switch) is None

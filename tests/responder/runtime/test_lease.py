"""The lease is taken, renewed, lost and, if in doubt, given up, by a clock that also runs during a suspend."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from responder.errors import JournalUnavailable, LeaseLost
from responder.journal import Database, Transaction, executions
from responder.runtime.lease import Lease
from tests.journals import journal, state  # noqa: F401

SECONDS = 2.0


class Clock:
    """A clock that moves only when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class BrokenJournal:
    """A journal whose lease transactions fail with the errors that a test has left in it."""

    def __init__(self, journal: Database) -> None:  # noqa: F811
        self._journal = journal
        self.errors: list[Exception] = []
        self.always: Exception | None = None
        self.tries = 0

    def now(self) -> Any:
        return self._journal.now()

    async def lease_transaction(self, act: Any, *args: Any) -> Any:
        self.tries += 1
        if error := self.errors.pop(0) if self.errors else self.always:
            raise error
        return await self._journal.lease_transaction(act, *args)


async def _end(tx: Transaction, worker: str) -> None:
    await tx.all("end_lease", worker=worker)


async def renewable(journal: Database, lease: Lease) -> bool:  # noqa: F811
    return await journal.lease_transaction(executions.renew, lease.id, lease.seconds)


async def test_the_guard_raises_before_the_lease_is_taken(journal: Database) -> None:  # noqa: F811
    with pytest.raises(LeaseLost):
        Lease(journal, 10.0).guard()


async def test_the_guard_notices_a_pause_of_three_quarters_of_the_lease(journal: Database) -> None:  # noqa: F811
    clock = Clock()
    lease = Lease(journal, 10.0, clock)
    await lease.take()
    for passed in (0.0, 7.5):
        clock.now = 100.0 + passed
        lease.guard()
    clock.now = 107.6
    with pytest.raises(LeaseLost, match=r"7\.6 s ago"):
        lease.guard()


async def test_the_lease_counts_from_the_request_not_from_the_answer(journal: Database) -> None:  # noqa: F811
    """The database counts from its own clock, at some time between the two: the earlier one is safe."""
    clock = Clock()

    class Slow(BrokenJournal):
        async def lease_transaction(self, act: Any, *args: Any) -> Any:
            answer = await super().lease_transaction(act, *args)
            clock.now += 8.0
            return answer

    lease = Lease(Slow(journal), 10.0, clock)  # type: ignore[arg-type]
    await lease.take()
    with pytest.raises(LeaseLost):
        lease.guard()


async def test_two_leases_are_two_workers(journal: Database) -> None:  # noqa: F811
    first, second = Lease(journal, 10.0), Lease(journal, 10.0)
    await first.take()
    await second.take()
    await journal.transaction(_end, first.id)
    assert not await renewable(journal, first)
    assert await renewable(journal, second)


async def test_it_is_renewed_until_it_is_lost(journal: Database) -> None:  # noqa: F811
    lease = Lease(journal, SECONDS)
    await lease.take()
    keeping = asyncio.create_task(lease.keep())
    await asyncio.sleep(SECONDS * 2)  # two lifetimes
    lease.guard()
    assert not keeping.done()
    await journal.transaction(_end, lease.id)
    async with asyncio.timeout(60):
        await keeping
    assert not await renewable(journal, lease)


@pytest.mark.parametrize("error", [JournalUnavailable("away"), ValueError("a bug")])
async def test_one_failed_renewal_is_tolerated(journal: Database, error: Exception) -> None:  # noqa: F811
    bugs: list[str] = []
    broken = BrokenJournal(journal)
    lease = Lease(broken, SECONDS, on_error=bugs.append)  # type: ignore[arg-type]
    await lease.take()
    broken.errors = [error]
    keeping = asyncio.create_task(lease.keep())
    async with asyncio.timeout(60):
        while broken.tries < 4:
            await asyncio.sleep(0.01)
    lease.guard()
    keeping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await keeping
    assert bugs == ([] if isinstance(error, JournalUnavailable) else ["lease"]), "only a bug is counted"


async def test_it_is_given_up_if_it_cannot_be_renewed(journal: Database) -> None:  # noqa: F811
    clock, broken = Clock(), BrokenJournal(journal)
    lease = Lease(broken, SECONDS, clock)  # type: ignore[arg-type]
    await lease.take()
    broken.always = JournalUnavailable("away")
    keeping = asyncio.create_task(lease.keep())
    async with asyncio.timeout(60):
        while broken.tries < 3:
            await asyncio.sleep(0.01)
        assert not keeping.done(), "not expired by the local clock"
        clock.now += SECONDS * 1.1
        await keeping
    with pytest.raises(LeaseLost):
        lease.guard()


async def test_an_expired_lease_cannot_be_renewed(journal: Database) -> None:  # noqa: F811
    lease = Lease(journal, 0.05)
    await lease.take()
    await asyncio.sleep(0.1)
    assert not await renewable(journal, lease)

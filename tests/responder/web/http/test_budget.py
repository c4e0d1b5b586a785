"""A budget is shared in the order in which tasks ask for it."""

from __future__ import annotations

import asyncio

import pytest

from responder.web.http.budget import Budget


class Work:
    """Takes a share, and keeps it until the test lets go."""

    def __init__(self, budget: Budget, size: int) -> None:
        self.over, self.running = asyncio.Event(), False
        self.task = asyncio.create_task(self._run(budget, size))

    async def _run(self, budget: Budget, size: int) -> None:
        async with budget.share(size):
            self.running = True
            await self.over.wait()
        self.running = False


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_work_waits_until_enough_is_left() -> None:
    budget = Budget(10)
    works = [Work(budget, size) for size in (6, 4, 5, 1)]
    await settle()
    assert [work.running for work in works] == [True, True, False, False], "the last one does not overtake"
    works[0].over.set()
    await settle()
    assert [work.running for work in works] == [False, True, True, True]
    for work in works:
        work.over.set()
    await asyncio.gather(*(work.task for work in works))


async def test_more_than_the_budget_runs_alone() -> None:
    budget = Budget(10)
    large, small = Work(budget, 50), Work(budget, 1)
    await settle()
    assert (large.running, small.running) == (True, False)
    large.over.set()
    await settle()
    assert small.running
    small.over.set()
    await small.task


async def test_what_is_given_up_or_fails_returns_its_share() -> None:
    budget = Budget(10)
    first, waiting = Work(budget, 10), Work(budget, 10)
    await settle()
    waiting.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting.task
    first.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first.task
    async with asyncio.timeout(60), budget.share(10):
        pass

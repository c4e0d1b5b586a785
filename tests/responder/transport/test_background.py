"""A loop survives unexpected errors with backoff, and ends on cancellation or a lost lease."""

from __future__ import annotations

import asyncio

import pytest

from responder.errors import JournalUnavailable, LeaseLost
from responder.transport.background import Loop, run_loop


class Loops:
    """The results of a loop's runs, in order; it is cancelled after the last one."""

    def __init__(self, *met: BaseException | float | None) -> None:
        self._met = list(met)
        self.on_error: list[Loop] = []
        self.waited: list[float] = []

    async def act(self) -> float | None:
        met = self._met.pop(0)
        if isinstance(met, BaseException):
            raise met
        return met

    async def wait(self, seconds: float) -> None:
        self.waited.append(seconds)
        if not self._met:
            raise asyncio.CancelledError

    async def run(self, **more: float) -> Loops:
        with pytest.raises(asyncio.CancelledError):
            await run_loop("collateral", self.act, every=2.0, on_error=self.on_error.append, wait=self.wait, **more)
        return self


BUG = ZeroDivisionError("a bug")


async def test_an_unexpected_error_is_counted_and_retried_with_backoff() -> None:
    loops = await Loops(*[BUG] * 8, None, BUG, 0.0, 30.0).run()
    assert loops.waited == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0, 2.0, 2.0, 0.0, 30.0]
    assert loops.on_error == ["collateral"] * 9
    assert (await Loops(BUG, BUG, BUG, BUG).run(longest=5.0)).waited == [2.0, 4.0, 5.0, 5.0]


async def test_an_unavailable_journal_is_no_unexpected_error() -> None:
    loops = await Loops(JournalUnavailable("away"), JournalUnavailable("away"), None).run()
    assert (loops.waited, loops.on_error) == ([2.0, 2.0, 2.0], [])


async def test_another_cancelled_task_does_not_end_the_loop() -> None:
    loops = await Loops(asyncio.CancelledError(), None).run()
    assert loops.on_error == ["collateral"]


async def test_a_lost_lease_ends_the_loop() -> None:
    with pytest.raises(LeaseLost):
        await run_loop("collateral", Loops(LeaseLost("lost")).act, every=2.0, on_error=[].append)


@pytest.mark.parametrize("error", [BUG, JournalUnavailable("away")])
async def test_cancellation_ends_the_loop_even_during_an_error(error: Exception) -> None:
    begun = asyncio.Event()

    async def act() -> None:
        try:
            begun.set()
            await asyncio.sleep(60)
        finally:
            raise error

    task = asyncio.create_task(run_loop("collateral", act, every=0.0, on_error=[].append))
    await begun.wait()
    task.cancel()
    await asyncio.wait([task], timeout=5)
    assert task.done()
    assert task.exception() is error


async def test_after_each_wait_it_rests_for_what_arrives_together(monkeypatch: pytest.MonkeyPatch) -> None:
    rested: list[float] = []

    async def sleep(seconds: float) -> None:
        rested.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    loops = await Loops(None, 30.0, 0.0).run(rest=0.1)
    assert (loops.waited, rested) == ([2.0, 30.0, 0.0], [0.1, 0.1])

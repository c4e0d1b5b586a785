"""Virtual time: the clock jumps while all tasks wait, so an hour takes milliseconds; files and sockets are real."""

from __future__ import annotations

import asyncio
import contextlib
import selectors
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Any, TypeVar

import time_machine

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):  # type: ignore[misc,valid-type]
    """Waits for real I/O only while some is pending; otherwise the clock jumps to the next timer."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[Any]:
        ready: list[Any] = super().select(0)
        if ready or timeout == 0:
            return ready
        if self.loop.under_way or timeout is None:
            ready = super().select(5.0)
            if not ready and timeout is None:
                raise RuntimeError("deadlock: all tasks wait without a timer")
            return ready
        self.loop.jump(timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop with its own clock, which `datetime.now` follows."""

    def __init__(self, start: datetime) -> None:
        self._selector_of_ours = _Selector()
        self._selector_of_ours.loop = self
        self.under_way = 0
        self._seconds = 0.0
        self._start = start.timestamp()
        self._traveller = time_machine.travel(start, tick=False)
        self._coordinates = self._traveller.start()
        super().__init__(self._selector_of_ours)

    def time(self) -> float:
        return self._seconds

    def jump(self, seconds: float) -> None:
        self._seconds += seconds
        self._coordinates.move_to(datetime.fromtimestamp(self._start + self._seconds, UTC))

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        """Runs at once and in place: threads take no virtual time, and every run is identical."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as e:
            future.set_exception(e)
        return future

    @contextlib.contextmanager
    def really(self) -> Iterator[None]:
        """Runs in real time while the virtual clock stands still."""
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1

    def close(self) -> None:
        super().close()
        self._traveller.stop()


def run(start: datetime, act: Callable[[VirtualLoop], Awaitable[T]]) -> T:
    """Runs a coroutine to its end in virtual time."""
    loop = VirtualLoop(start)
    try:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(act(loop))  # type: ignore[arg-type]
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                loop.run_until_complete(task)
        loop.run_until_complete(loop.shutdown_default_executor())
        asyncio.set_event_loop(None)
        loop.close()

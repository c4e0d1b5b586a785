"""Runs blocking work in daemon threads: a call that hangs in a dead file system delays neither others nor the exit."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


class DaemonThreads(ThreadPoolExecutor):
    """An executor with a new daemon thread for each call."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Starts the work. It cannot be cancelled, only abandoned."""
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()

        def run() -> None:
            try:
                future.set_result(work(*args, **kwargs))
            except BaseException as e:
                future.set_exception(e)

        threading.Thread(target=run, daemon=True, name="blocking-work").start()
        return future


_THREADS = DaemonThreads()


async def in_daemon(work: Callable[..., T], *args: Any) -> T:
    """Returns the result of blocking work. A cancelled call abandons its thread, which may run on."""
    return await asyncio.get_running_loop().run_in_executor(_THREADS, work, *args)

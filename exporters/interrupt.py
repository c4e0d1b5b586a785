"""Ctrl-C ends a command within a second, wherever it strikes.

Python runs signal handlers between two bytecodes of the main thread, which can sleep before it reaches the next one.
Therefore the signal wakes a thread, and that thread ends the process.
"""

from __future__ import annotations

import _thread
import os
import signal
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:  # asyncio takes long to import, and Ctrl-C must already work while it does
    import asyncio

T = TypeVar("T")

EXIT_CODE = 130
"""What shells report for a command that SIGINT ended."""

GRACE = 0.5
"""Seconds for a check to end what it started, as the program of a `custom` check."""

_running: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None
_interrupted = False


def install() -> None:
    """Ends the process on SIGINT, unless whoever started it ignores SIGINT. Only for the main thread of a program."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    _thread.start_new_thread(_wait, (reader,))
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGINT, _handled_by_the_thread)


def run(command: Coroutine[Any, Any, T]) -> T:
    """As asyncio.run, but SIGINT cancels the command and gives it GRACE seconds."""
    import asyncio

    async def cancellable() -> T:
        global _running
        task = asyncio.current_task()
        if task is not None:
            _running = asyncio.get_running_loop(), task
        return await command

    try:
        return asyncio.run(cancellable())
    except BaseException:  # whatever the cancellation caused
        if _interrupted:
            os._exit(EXIT_CODE)
        raise


def _handled_by_the_thread(*_: object) -> None:
    pass


def _wait(reader: int) -> None:
    global _interrupted
    while signal.SIGINT not in os.read(reader, 64):  # other signals wake it too
        pass
    _interrupted = True
    if _running is not None:
        loop, task = _running
        with suppress(RuntimeError):  # the loop is closed already
            loop.call_soon_threadsafe(loop.set_exception_handler, lambda *_: None)
            loop.call_soon_threadsafe(task.cancel)
        time.sleep(GRACE)
    os._exit(EXIT_CODE)

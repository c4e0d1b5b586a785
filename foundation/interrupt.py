"""Ctrl-C ends a command within a second, at any point.

Python runs signal handlers between two bytecodes of the main thread. A main thread that sleeps in the event loop, joins
another thread or fills a pipe may reach the next bytecode late or never. The handler of asyncio loses a signal that
arrives just before the loop sleeps. An exception raised by a handler can be swallowed. Therefore the signal wakes a
thread, and that thread ends the process.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import select
import signal
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:  # asyncio is slow to import, and Ctrl-C must already work meanwhile
    import asyncio

T = TypeVar("T")

EXIT_CODE = 130
"""The exit code that shells report for a command that SIGINT ended."""

GRACE = 0.5
"""Seconds for a command to clean up, such as to drop a scratch database or to end a child process."""

_running: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None
_message = ""
_interrupted = False


def install() -> None:
    """Ends the process on SIGINT, unless the parent process ignores SIGINT. Call it in the main thread."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    _thread.start_new_thread(_wait, (reader,))
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGINT, _handled_by_the_thread)


def on_leaving(message: str) -> None:
    """Sets the line that SIGINT prints on stderr from now on. Empty for none."""
    global _message
    _message = message


def run(command: Coroutine[Any, Any, T]) -> T:
    """Runs like asyncio.run, for a command that cleans up: SIGINT cancels it and gives it GRACE seconds."""
    import asyncio

    async def cancellable() -> T:
        global _running
        task = asyncio.current_task()
        if task is not None:
            _running = asyncio.get_running_loop(), task
        return await command

    try:
        return asyncio.run(cancellable())
    except BaseException:  # any effect of the cancellation
        if _interrupted:
            _leave()
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
        with contextlib.suppress(RuntimeError):  # the loop is closed already
            loop.call_soon_threadsafe(loop.set_exception_handler, lambda *_: None)
            loop.call_soon_threadsafe(task.cancel)
        time.sleep(GRACE)
    _leave()


def _leave() -> None:
    if os.isatty(1):
        _write(1, "\x1b[?25h")  # the live view hides the cursor
    if _message:
        _write(2, f"\n{_message}\n")
    os._exit(EXIT_CODE)


def _write(descriptor: int, text: str) -> None:
    """Writes without blocking on a reader."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    if any(event & select.POLLOUT for _, event in poll.poll(0)):
        with contextlib.suppress(OSError):
            os.write(descriptor, text.encode())

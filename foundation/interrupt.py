"""Ctrl-C ends a command within a second, wherever it strikes.

Python runs signal handlers between two bytecodes of the main thread. A main thread that sleeps in the event loop, joins
another thread or fills a pipe can reach the next bytecode late or never: asyncio's own handler loses a signal that
arrives just before the loop sleeps. An exception that a handler raises can also end where nothing sees it. Therefore
the signal wakes a thread, and that thread ends the process.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import select
import signal
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # asyncio takes long to import, and Ctrl-C must already work while it does
    import asyncio

EXIT_CODE = 130
"""What shells report for a command that SIGINT ended."""

GRACE = 0.5
"""Seconds for a command that works from the configuration file to drop what it made, as a scratch database."""

_running: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None
_last_words = ""
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


def on_leaving(message: str) -> None:
    """Sets the line that SIGINT prints on stderr from now on; empty for none."""
    global _last_words
    _last_words = message


def run(command: Coroutine[Any, Any, int]) -> int:
    """As asyncio.run, for a command that has something to clean up: SIGINT cancels it and gives it GRACE seconds."""
    import asyncio

    async def cancellable() -> int:
        global _running
        task = asyncio.current_task()
        if task is not None:
            _running = asyncio.get_running_loop(), task
        return await command

    try:
        return asyncio.run(cancellable())
    except BaseException:  # whatever the cancellation caused
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
    if _last_words:
        _write(2, f"\n{_last_words}\n")
    os._exit(EXIT_CODE)


def _write(descriptor: int, text: str) -> None:
    """Writes without waiting: nobody may be reading."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    if any(event & select.POLLOUT for _, event in poll.poll(0)):
        with contextlib.suppress(OSError):
            os.write(descriptor, text.encode())

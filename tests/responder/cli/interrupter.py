"""Runs a command repeatedly, and sends it SIGINT at a different point each time: a program for test_interrupt.

usage: interrupter.py PROGRAM WHERE FIRST STEP MOST ARGUMENT...

WHERE is `import` (the nth import), `await` (the nth time that a coroutine starts or resumes), `asleep` (the nth time
that the event loop sleeps, on a thread other than the main one, as if the signal came just before the sleep), or the
name of a point in PLACES, where the command hangs forever. Prints one JSON object for each run: n, whether the point
was reached, the exit code, and the command's stderr. The first point that is not reached is the last one.
Each run is a fork of one interpreter.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

WITHIN = 60.0
"""Timeout in seconds, for a busy machine; a hanging command takes longer."""

ASYNC = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
reached = False


def interrupt_once() -> None:
    global reached
    if not reached:
        reached = True
        os.write(REACHED, b"x")
        os.kill(os.getpid(), signal.SIGINT)


def interrupt_from_thread() -> None:
    """SIGINT on another thread: no system call of the main thread is interrupted."""
    global reached
    reached = True
    os.write(REACHED, b"x")
    time.sleep(0.05)  # the loop falls asleep
    signal.raise_signal(signal.SIGINT)


def at_import(nth: int) -> None:
    left = [nth]

    class Finder:
        @staticmethod
        def find_spec(*_: object) -> None:
            left[0] -= 1
            if left[0] == 0:
                interrupt_once()

    sys.meta_path.insert(0, Finder)  # type: ignore[arg-type]


def at_await(nth: int) -> None:
    left = [nth]

    def profile(frame: Any, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_flags & ASYNC:
            left[0] -= 1
            if left[0] == 0:
                sys.setprofile(None)
                interrupt_once()

    late = threading.Timer(3, os.kill, (os.getpid(), signal.SIGINT))  # there are fewer points than that
    late.daemon = True
    late.start()
    sys.setprofile(profile)


def asleep(nth: int) -> None:
    import selectors

    left, select = [nth], selectors.EpollSelector.select

    def selecting(self: Any, timeout: float | None = None) -> Any:
        if timeout is None or timeout > 0.2:
            left[0] -= 1
            if left[0] == 0:
                threading.Thread(target=interrupt_from_thread, daemon=True).start()
        return select(self, timeout)

    selectors.EpollSelector.select = selecting  # type: ignore[method-assign]


def hang(*_: Any, **__: Any) -> Any:
    """A call that sends SIGINT and never returns."""
    interrupt_once()
    while True:
        time.sleep(600)


def in_dns(_: int) -> None:
    import socket

    socket.getaddrinfo = hang  # in a thread that never ends


def in_a_call_that_swallows(_: int) -> None:
    import asyncio

    import aiohttp

    async def request(*_: Any, **__: Any) -> Any:
        interrupt_once()
        while True:
            try:
                await asyncio.sleep(600)
            except BaseException:
                continue

    aiohttp.ClientSession._request = request  # type: ignore[method-assign]


def in_main(_: int) -> None:
    """In a system call of the main thread, within the event loop."""
    import aiohttp

    aiohttp.ClientSession._request = hang  # type: ignore[method-assign]


def at_exit(_: int) -> None:
    import atexit

    atexit.register(hang)


def in_a_full_pipe(_: int) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"x" * 65536)
    except BlockingIOError:
        os.set_blocking(writer, True)
    os.set_inheritable(reader, True)  # stays open
    os.dup2(writer, 1)
    os.dup2(writer, 2)
    threading.Timer(0.5, interrupt_once).start()  # now it is full


PLACES: dict[str, Callable[[int], None]] = {
    "import": at_import,
    "await": at_await,
    "asleep": asleep,
    "dns": in_dns,
    "swallowed": in_a_call_that_swallows,
    "main": in_main,
    "exit": at_exit,
    "pipe": in_a_full_pipe,
}


MODULES = {
    ("responder", "check"): ("responder.cli.checking.check",),
    ("responder", "status"): ("responder.cli.client", "responder.cli.reports"),
    ("responder", "watch"): ("responder.cli.client", "responder.cli.rollbacks"),
}
"""What a command imports when it is used."""


def child(program: str, where: str, nth: int, arguments: list[str], stderr: int) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(stderr, 2)
    sys.argv = [program, *arguments]
    entry = importlib.import_module(f"{program}.__main__")
    entry.interrupt.install()  # earlier calls are the start of the interpreter
    PLACES[where](nth)
    raise SystemExit(entry.main())


def run(program: str, where: str, nth: int, arguments: list[str]) -> dict[str, Any]:
    global REACHED
    with tempfile.TemporaryFile() as stderr:
        reading, REACHED = os.pipe()
        os.set_blocking(reading, False)
        pid = os.fork()
        if pid == 0:
            child(program, where, nth, arguments, stderr.fileno())
        os.close(REACHED)
        end = time.monotonic() + WITHIN
        while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0) and time.monotonic() < end:
            time.sleep(0.005)
        if ended == (0, 0):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        stderr.seek(0)
        code = os.waitstatus_to_exitcode(ended[1]) if ended[0] else None
        answer = {"n": nth, "reached": bool(os.read(reading, 1)), "code": code, "err": stderr.read().decode()}
        os.close(reading)
        return answer


def main() -> None:
    program, where, first, step, most, *arguments = sys.argv[1:]
    if where != "import":  # not part of the command, and slow
        for module in MODULES[program, arguments[0]]:
            importlib.import_module(module)
    for nth in range(int(first), int(most) + 1, int(step)):
        answer = run(program, where, nth, arguments)
        print(json.dumps(answer), flush=True)
        if not answer["reached"]:
            return


REACHED = -1
if __name__ == "__main__":
    main()

"""One program of the demo: ready when it is entered, ended with all its children when it is left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from time import monotonic

import aiohttp

READY_WITHIN = 20.0
ENDS_WITHIN = 6.0


class Broken(Exception):
    """A part is missing or failed. The text names it and what to do."""


class Part:
    """A running program."""

    def __init__(self, name: str, argv: Sequence[str], log: Path, hint: str) -> None:
        self.name = name
        self.log = log
        self.hint = hint
        # A session of its own: only the demo receives Ctrl-C, and decides the order in which the parts end. The
        # group has all its children. If the demo is killed, the kernel ends the part.
        lifeline = [setpriv, "--pdeathsig=TERM"] if (setpriv := shutil.which("setpriv")) else []
        try:
            with log.open("wb") as output:
                self._popen = subprocess.Popen(
                    [*lifeline, *argv],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as e:
            raise Broken(f"{name} cannot be started: {argv[0]}: {e.strerror}\nWhat to do: {hint}") from None

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    async def ready(self, session: aiohttp.ClientSession, url: str) -> None:
        """Returns once the URL answers 200. Raises Broken, with the end of the log, after READY_WITHIN seconds."""
        until = monotonic() + READY_WITHIN
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with session.get(url, timeout=aiohttp.ClientTimeout(total=1)) as answer:
                    if answer.status == 200:
                        return
            self.must_run()
            if monotonic() > until:
                raise Broken(f"{self.name} was not ready within {READY_WITHIN:g} s ({url}).{self.tail()}")
            await asyncio.sleep(0.05)

    def must_run(self) -> None:
        """Raises Broken, with the end of its log, if it has ended."""
        if (code := self._popen.poll()) is not None:
            raise Broken(f"{self.name} has ended with exit code {code}.{self.tail()}")

    def tail(self, lines: int = 12) -> str:
        output = self.log.read_text(errors="replace").splitlines()[-lines:]
        shown = [f"  {line}" for line in output or ["(empty)"]]
        advice = f"What to do: run the demo again, because another program may have taken a port. {self.hint}"
        return "\n".join(["", f"The end of its log, {self.log.name}:", *shown, advice])

    async def end(self) -> None:
        """Terminates it, and kills it if it does not end."""
        if self.running:
            self._popen.terminate()
        until = monotonic() + ENDS_WITHIN
        while self.running and monotonic() < until:
            await asyncio.sleep(0.02)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)  # the program and its children
        self._popen.wait()


async def run(argv: Sequence[str], *, within: float = 30.0) -> str:
    """Returns the output of a command. Raises Broken if it fails."""
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        async with asyncio.timeout(within):
            output = (await process.communicate())[0].decode(errors="replace").strip()
    except TimeoutError:
        raise Broken(f"{' '.join(argv)} did not end within {within:g} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if process.returncode:
        raise Broken(f"{' '.join(argv)} exited with {process.returncode}:\n{output}")
    return output


def free_ports(n: int) -> list[int]:
    """Returns free loopback ports below the range of outgoing connections."""
    with contextlib.ExitStack() as held:
        found: list[int] = []
        for port in random.sample(range(10_000, 30_000), 1000):
            probe = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                found.append(port)
            if len(found) == n:
                return found
    raise Broken("No free ports between 10000 and 30000 on 127.0.0.1.")

"""Servers under test: started, timed until they answer, weighed, and never left behind."""

from __future__ import annotations

import http.client
import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

_READY_WITHIN = 30.0
_LOOK_EVERY = (
    0.002  # a refused connection costs 0.1 ms: often enough for a time in milliseconds, and no load to speak of
)


INSTALLED = {"PYTHONDONTWRITEBYTECODE": ""}
"""The environment of a server: byte code is kept, as in an installation."""


class Unready(Exception):
    """A server did not come up, with the end of what it said."""


@dataclass(frozen=True)
class Weight:
    """Memory in MiB: resident, and with shared pages divided among those who share them (PSS)."""

    rss: float
    pss: float


def program(name: str) -> str:
    """Where an installed program is. Raises Unready with the package that brings it."""
    if found := shutil.which(name):
        return found
    raise Unready(f"{name} is not installed: apt-get install -y --no-install-recommends {name}")


def free_port() -> int:
    """A loopback port that nobody listens on, below the range of outgoing connections."""
    while True:
        port = random.randint(10_000, 30_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class Server:
    """One process that listens on a loopback port."""

    def __init__(self, popen: subprocess.Popen[bytes], port: int, ready_after: float) -> None:
        self._process = psutil.Process(popen.pid)
        self._popen = popen
        self.port = port
        self.ready_after = ready_after
        """Seconds from the start of the process to the first 200."""
        self.ready_cpu = self.cpu_seconds()
        """Seconds of CPU until then."""

    @classmethod
    def start(
        cls, argv: Sequence[str], *, port: int, ready: str, log: Path, cwd: Path, env: Mapping[str, str] | None = None
    ) -> Server:
        with log.open("wb") as output:
            began = time.monotonic()
            popen = subprocess.Popen(
                argv,
                cwd=cwd,
                env={**os.environ, **INSTALLED, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        while not _answers(port, ready):
            if popen.poll() is not None or time.monotonic() - began > _READY_WITHIN:
                popen.kill()
                popen.wait()
                raise Unready(f"{' '.join(argv)} is not ready:\n{log.read_text(errors='replace')[-2000:]}")
            time.sleep(_LOOK_EVERY)
        return cls(popen, port, time.monotonic() - began)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cpu_seconds(self) -> float:
        """Of the process and of the commands that it has run to their end."""
        times = self._process.cpu_times()
        return float(times.user + times.system + times.children_user + times.children_system)

    def weight(self) -> Weight:
        memory = self._process.memory_full_info()
        return Weight(rss=memory.rss / 2**20, pss=memory.pss / 2**20)

    def forget_peak(self) -> None:
        """`peak` counts from now on."""
        Path(f"/proc/{self._popen.pid}/clear_refs").write_text("5")

    def peak(self) -> float:
        """The most memory that was resident at any time, in MiB."""
        status = Path(f"/proc/{self._popen.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024

    def calm_down(self, within: float = 10.0) -> None:
        """Waits for the commands that it still runs, so that they do not slow down the next measurement."""
        end = time.monotonic() + within
        while self._process.children() and time.monotonic() < end:
            time.sleep(0.05)

    def stop(self) -> None:
        self._popen.terminate()
        try:
            self._popen.wait(10)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()

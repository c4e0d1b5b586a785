"""Sees every `current` link change at the moment it does: a process of its own that sleeps in inotify meanwhile.

The time of the link itself (st_ctime) will not do: the kernel takes it from its tick, up to 4 ms before the act.
"""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

_MOVED_TO = 0x80
_EVENT = struct.Struct("iIII")


class Watcher:
    """`with` it, act, and ask `acts` afterwards: when each service's link was switched, in ns of CLOCK_MONOTONIC."""

    def __init__(self, root: Path, services: Sequence[str]) -> None:
        self._argv = [sys.executable, "-m", "benchmarks.links", str(root), *services]
        self._seen: dict[str, int] = {}

    def __enter__(self) -> Watcher:
        self._process = subprocess.Popen(self._argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._out.readline()  # it watches now
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate()

    @property
    def _out(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    def acts(self, expected: int, within: float = 10.0) -> dict[str, int]:
        """Waits for so many acts, and says which there were; fewer where they do not come in time."""
        end = time.monotonic() + within
        os.set_blocking(self._out.fileno(), False)
        rest = b""
        while len(self._seen) < expected and time.monotonic() < end:
            *lines, rest = (rest + (self._out.read() or b"")).split(b"\n")
            for line in lines:
                service, _, at = line.decode().partition(" ")
                self._seen.setdefault(service, int(at))
            time.sleep(0.02)
        return dict(self._seen)


def _watch(root: Path, services: Sequence[str]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    inotify = libc.inotify_init1(0)
    watched = {}
    for service in services:
        watch = libc.inotify_add_watch(inotify, os.fsencode(root / service), _MOVED_TO)
        if inotify < 0 or watch < 0:
            raise OSError(ctypes.get_errno(), "inotify", str(root / service))
        watched[watch] = service
    os.write(1, b"watching\n")
    while True:
        found = os.read(inotify, 1 << 16)
        now = time.monotonic_ns()
        at = 0
        while at < len(found):
            watch, _, _, length = _EVENT.unpack_from(found, at)
            at += _EVENT.size + length
            if found[at - length : at].rstrip(b"\0") == b"current":
                os.write(1, f"{watched[watch]} {now}\n".encode())


if __name__ == "__main__":
    _watch(Path(sys.argv[1]), sys.argv[2:])

"""A program whose reader stops early ends, regardless of its remaining output."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import psutil
import pytest

from responder.backends.host.logs_client import Host
from responder.backends.postgres.snapshots.streams import output_of, pipe
from responder.errors import Unavailable
from responder.transport.programs import end

ENDLESS = ("sh", "-c", 'echo $$ > "$1"; exec yes', "sh")


async def blocks() -> AsyncGenerator[bytes]:
    while True:
        yield bytes(1 << 20)
        await asyncio.sleep(0)


async def _gone(pid: int) -> bool:
    for _ in range(100):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        await asyncio.sleep(0.02)
    return False


@pytest.mark.parametrize(
    "starts",
    [
        lambda file: output_of([*ENDLESS, str(file)], os.environ),
        lambda file: pipe([*ENDLESS, str(file)], os.environ, blocks()),
        lambda file: Host().stream_output(*ENDLESS, str(file)),
    ],
    ids=["output_of", "pipe", "stream_output"],
)
async def test_a_full_pipe_does_not_block_the_end(
    tmp_path: Path, starts: Callable[[Path], AsyncGenerator[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(end, "__kwdefaults__", {"timeout": 3600.0})  # nothing below reaches the deadline
    file = tmp_path / "pid"
    async with asyncio.timeout(60), contextlib.aclosing(starts(file)) as chunks:
        async for _ in chunks:
            await asyncio.sleep(0.3)  # without a reader the pipe is full, and asyncio pauses it
            break
    assert await _gone(int(file.read_text()))


async def test_a_killed_program_is_an_error(tmp_path: Path) -> None:
    argv = ("sh", "-c", "echo some; kill -9 $$")
    with pytest.raises(Unavailable, match="killed by signal 9"):
        async for _ in output_of(argv, os.environ):
            pass

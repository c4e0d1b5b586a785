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
from responder.backends.postgres.snapshots.streams import output_of, pipe, read_along
from responder.errors import StepFailed, Unavailable
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


async def numbered(most: int) -> AsyncGenerator[bytes]:
    for number in range(most):
        yield bytes([number]) * (1 << 18)


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("cat > /dev/null", None),
        ("head -c 1000 > /dev/null", None),
        ("head -c 1000 > /dev/null; echo no such table >&2; exit 1", "exited with 1: no such table"),
        ("kill -9 $$", "killed by signal 9"),
    ],
)
async def test_a_stream_is_complete_only_if_the_program_beside_it_could_read_it(script: str, error: str | None) -> None:
    read = []
    with pytest.raises((StepFailed, Unavailable), match=error) if error else contextlib.nullcontext():
        async for block in read_along(["sh", "-c", script], os.environ, numbered(8)):
            read.append(block[0])
    assert read == list(range(len(read)))
    assert error or len(read) == 8


async def test_a_stream_that_fails_ends_the_program_beside_it(tmp_path: Path) -> None:
    async def fails() -> AsyncGenerator[bytes]:
        yield b"x"
        raise StepFailed("pg_dump failed")

    read = tmp_path / "read"
    with pytest.raises(StepFailed, match="pg_dump failed"):
        async for _ in read_along(["sh", "-c", 'cat; echo complete > "$1"', "sh", str(read)], os.environ, fails()):
            pass
    assert not read.exists()


async def test_a_killed_program_is_an_error(tmp_path: Path) -> None:
    argv = ("sh", "-c", "echo some; kill -9 $$")
    with pytest.raises(Unavailable, match="killed by signal 9"):
        async for _ in output_of(argv, os.environ):
            pass

"""Programs that take or give streams: they end with us, and what one gave counts only once it has ended well."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import cast

from responder.backends.postgres.client import without_values
from responder.errors import StepFailed, Unavailable
from responder.transport.object_store import BLOCK
from responder.transport.programs import end, spawn

_SAID = 2000
"""Characters kept of what a failing program said last."""

_LOST = re.compile(
    r"connection to server|server closed the connection|terminating connection|could not receive data|no connection to"
    r"|could not translate host|the database system is|canceling statement due to (statement|lock) timeout"
    r"|could not obtain lock|too many clients|remaining connection slots|No space left",
    re.IGNORECASE,
)
"""What PostgreSQL's programs say where another try may go well."""


async def given_by(argv: Sequence[str], env: Mapping[str, str]) -> AsyncGenerator[bytes]:
    """What a program writes, in blocks. Ends only where it exited with 0: a truncated stream raises.

    Raises `Unavailable` where it was killed or lost its server, and `Halt` for all else. Use it with `aclosing`: the
    program is killed when the stream is closed before its end.
    """
    async with _running(argv, env, stdin=False) as program:
        async for block in _blocks(program):
            yield block


async def fed_to(argv: Sequence[str], env: Mapping[str, str], blocks: AsyncIterator[bytes]) -> None:
    """Lets a program read all of the blocks. Raises as `given_by` does."""
    async for _ in through(argv, env, blocks):
        pass


async def through(argv: Sequence[str], env: Mapping[str, str], blocks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """What a program makes of the blocks. All of them are read, also where it has
    enough before their end. Raises as `given_by` does.
    """
    async with _running(argv, env, stdin=True) as program:
        feeding = asyncio.create_task(_feed(program, blocks))
        try:
            async for block in _blocks(program):
                yield block
            await feeding
        finally:
            feeding.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await feeding


async def _feed(program: asyncio.subprocess.Process, blocks: AsyncIterator[bytes]) -> None:
    stdin, listens = cast(asyncio.StreamWriter, program.stdin), True
    try:
        async for block in blocks:
            if listens:
                try:
                    stdin.write(block)
                    await stdin.drain()
                except (BrokenPipeError, ConnectionResetError):
                    if await program.wait():
                        return  # it is told why by whoever waits for it
                    listens = False
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)  # else it would take what it has for all that there is
        raise
    stdin.close()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        await stdin.wait_closed()


async def _blocks(program: asyncio.subprocess.Process) -> AsyncIterator[bytes]:
    """As they come, gathered to blocks of some size."""
    reader, gathered = cast(asyncio.StreamReader, program.stdout), bytearray()
    while piece := await reader.read(BLOCK):
        gathered += piece
        if len(gathered) >= BLOCK:
            yield bytes(gathered)
            gathered.clear()
    if gathered:
        yield bytes(gathered)


@contextlib.asynccontextmanager
async def _running(
    argv: Sequence[str], env: Mapping[str, str], *, stdin: bool
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A program of its own process group, which is killed where we leave early, and whose exit code is looked at."""
    try:
        program = await spawn(
            argv,
            env,
            stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=BLOCK,
        )
    except (OSError, ValueError) as e:
        raise StepFailed(f"{argv[0]} cannot be started: {e}") from e
    tail = bytearray()
    listening = asyncio.create_task(_listen(cast(asyncio.StreamReader, program.stderr), tail))
    try:
        yield program
        await program.wait()
        await asyncio.wait([listening], timeout=1)
        if program.returncode:
            raise _failure(argv[0], program.returncode, without_values(tail.decode(errors="replace")).strip())
    finally:
        await end(program, program.stdout)
        listening.cancel()
        await asyncio.wait([listening])


async def _listen(stderr: asyncio.StreamReader, tail: bytearray) -> None:
    while piece := await stderr.read(4096):
        tail.extend(piece)
        del tail[:-_SAID]


def _failure(name: str, code: int, stderr: str) -> StepFailed | Unavailable:
    if code < 0:
        return Unavailable(f"{name} was killed by signal {-code}: {stderr or '(it said nothing)'}")
    message = f"{name} exited with {code}: {stderr or '(it said nothing)'}"
    return Unavailable(message) if _LOST.search(stderr) else StepFailed(message)

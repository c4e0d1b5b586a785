"""Streams into and out of programs. A stream is valid only if its program exits with 0."""

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

_OUTPUT_LIMIT = 2000
"""Last bytes of a failed program's standard error that an error quotes."""

_UNAVAILABLE = re.compile(
    r"connection to server|server closed the connection|terminating connection|could not receive data|no connection to"
    r"|could not translate host|the database system is|canceling statement due to (statement|lock) timeout"
    r"|could not obtain lock|too many clients|remaining connection slots|No space left",
    re.IGNORECASE,
)
"""Messages of the programs of PostgreSQL after which a retry may succeed."""


async def output_of(argv: Sequence[str], env: Mapping[str, str]) -> AsyncGenerator[bytes]:
    """The standard output of a program, in blocks.

    Raises Unavailable if the program was killed or lost its server, and StepFailed if it failed otherwise. Use it
    with `aclosing`: closing the stream early kills the program.
    """
    async with _running(argv, env, stdin=False) as program:
        async for block in _blocks(program):
            yield block


async def feed(argv: Sequence[str], env: Mapping[str, str], blocks: AsyncIterator[bytes]) -> None:
    """Writes the blocks to the standard input of a program. Raises the errors of `output_of`."""
    async for _ in pipe(argv, env, blocks):
        pass


async def pipe(argv: Sequence[str], env: Mapping[str, str], blocks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """Writes the blocks to a program and yields its output. It reads all blocks, also if the program stops reading.

    Raises the errors of `output_of`.
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


async def read_along(
    argv: Sequence[str], env: Mapping[str, str], blocks: AsyncIterator[bytes]
) -> AsyncGenerator[bytes]:
    """Yields the blocks, each after it was written to a program, whose output is ignored.

    The program starts with the first block: until then, it would only take memory and delay the source of the blocks.
    Raises the errors of `output_of`, after the last block at the latest.
    """
    first = await anext(blocks, b"")

    async def every() -> AsyncIterator[bytes]:
        yield first
        async for block in blocks:
            yield block

    async with _running(argv, env, stdin=True, stdout=False) as program:
        async for block in _written(program, every()):
            yield block


async def _feed(program: asyncio.subprocess.Process, blocks: AsyncIterator[bytes]) -> None:
    try:
        async for _ in _written(program, blocks):
            pass
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)  # else it would take the truncated input as complete
        raise


async def _written(program: asyncio.subprocess.Process, blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yields the blocks, each after it was written to the program. It ends early if the program has failed."""
    stdin, reads = cast(asyncio.StreamWriter, program.stdin), True
    async for block in blocks:
        if reads:
            try:
                stdin.write(block)
                await stdin.drain()
            except (BrokenPipeError, ConnectionResetError):
                if await program.wait():
                    return  # `_running` raises its error
                reads = False
        yield block
    stdin.close()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        await stdin.wait_closed()


async def _blocks(program: asyncio.subprocess.Process) -> AsyncIterator[bytes]:
    """The output, joined to blocks of at least BLOCK bytes."""
    reader, block = cast(asyncio.StreamReader, program.stdout), bytearray()
    while piece := await reader.read(BLOCK):
        block += piece
        if len(block) >= BLOCK:
            yield bytes(block)
            block.clear()
    if block:
        yield bytes(block)


@contextlib.asynccontextmanager
async def _running(
    argv: Sequence[str], env: Mapping[str, str], *, stdin: bool, stdout: bool = True
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Runs a program in its own process group. Kills it if the block ends early; raises if its exit code is not 0."""
    try:
        program = await spawn(
            argv,
            env,
            stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE if stdout else asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            limit=BLOCK,
        )
    except (OSError, ValueError) as e:
        raise StepFailed(f"cannot start {argv[0]}: {e}") from e
    tail = bytearray()
    reading = asyncio.create_task(_read_tail(cast(asyncio.StreamReader, program.stderr), tail))
    try:
        yield program
        await program.wait()
        await asyncio.wait([reading], timeout=1)
        if program.returncode:
            raise _failure(argv[0], program.returncode, without_values(tail.decode(errors="replace")).strip())
    finally:
        await end(program, program.stdout)
        reading.cancel()
        await asyncio.wait([reading])


async def _read_tail(stderr: asyncio.StreamReader, tail: bytearray) -> None:
    while piece := await stderr.read(4096):
        tail.extend(piece)
        del tail[:-_OUTPUT_LIMIT]


def _failure(name: str, code: int, stderr: str) -> StepFailed | Unavailable:
    if code < 0:
        return Unavailable(f"{name} was killed by signal {-code}: {stderr or '(no output)'}")
    message = f"{name} exited with {code}: {stderr or '(no output)'}"
    return Unavailable(message) if _UNAVAILABLE.search(stderr) else StepFailed(message)

"""Commands of this host, with a deadline. What they leave running is not harmed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import signal
from collections.abc import Mapping
from pathlib import Path

from responder.errors import StepFailed, Unavailable
from responder.transport.acting import acting
from responder.transport.programs import end, environment, spawn

log = logging.getLogger("responder.host")

MAX_OUTPUT = 2000
"""Characters kept of the output of a command."""

_READER = ("sh", "-c", "exec 3<&0; cat <&3 >/dev/null 3<&- &")
"""Starts `cat`, and ends before it. Without descriptor 3, a shell would give the background job an empty input."""

_NOWHERE = asyncio.subprocess.DEVNULL
_PIPE_TIMEOUT = 0.2
"""Seconds to read the rest of the pipe after a command ended."""


async def run_command(argv: tuple[str, ...], env: Mapping[str, str], *, within: float, cwd: Path | None) -> str:
    """Runs a command to its end and returns the tail of its output. See `Local.run`."""
    # With a pipe of asyncio, `wait` would wait for every daemon that the command starts.
    reading_end, writing_end = os.pipe()
    try:
        acting.get()()
        process = await spawn(argv, env, cwd=cwd, stdout=writing_end, stderr=writing_end)
    except BaseException as e:
        os.close(reading_end)
        if isinstance(e, OSError | ValueError):
            raise StepFailed(f"{argv[0]} cannot be started: {e}") from e
        raise
    finally:
        os.close(writing_end)
    output, rest = bytearray(), os.dup(reading_end)
    reading = asyncio.create_task(_read_tail(reading_end, output))
    try:
        async with asyncio.timeout(within):
            await process.wait()
            await asyncio.wait([reading], timeout=_PIPE_TIMEOUT)
    except TimeoutError:
        # Never repeated within a step: each attempt would be killed halfway again.
        raise Unavailable(f"{' '.join(argv)} did not end within {within:g} s", retry_after=math.inf) from None
    finally:
        await end(process)
        is_held = not reading.done()
        reading.cancel()
        await asyncio.wait([reading])
        await _discard(rest, argv[0], is_held=is_held)
    text = output.decode(errors="replace").strip()
    if process.returncode:
        raise StepFailed(f"{' '.join(argv)} exited with {_code(process.returncode)}: {text or '(no output)'}")
    return text


def _code(code: int) -> str:
    with contextlib.suppress(ValueError):
        return f"{code} (killed by {signal.Signals(-code).name})" if code < 0 else str(code)
    return str(code)


async def _read_tail(pipe: int, output: bytearray) -> None:
    """Keeps the tail of the output in the pipe, and closes it at the end."""
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, os.fdopen(pipe, "rb", 0))
    try:
        while chunk := await reader.read(4096):
            output.extend(chunk)
            del output[:-MAX_OUTPUT]
    finally:
        transport.close()


async def _discard(pipe: int, program: str, *, is_held: bool) -> None:
    """Closes the pipe; if a daemon of the command still holds it, `cat` reads it until the daemon ends.

    Without a reader, the next line that the daemon prints would end it (SIGPIPE), some time after its restart
    succeeded. `cat` also outlives this process.
    """
    try:
        if is_held:
            log.info("command left a process that holds its output", extra={"program": program})
            os.set_blocking(pipe, True)
            with contextlib.suppress(OSError):
                started = await spawn(_READER, environment(), stdin=pipe, stdout=_NOWHERE, stderr=_NOWHERE)
                await started.wait()
    finally:
        os.close(pipe)

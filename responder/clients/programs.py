"""Programs of others, that end with us or at their deadline."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping
from pathlib import Path

from responder.durations import format_duration
from responder.errors import Halt, Unavailable


async def program(
    argv: tuple[str, ...], *, within: float, cwd: Path | None, env: Mapping[str, str]
) -> tuple[int, str, str]:
    """Exit code, standard output, standard error. Its whole process group is killed at the deadline or when we stop."""
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            cwd=cwd,
            env=dict(env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except (OSError, ValueError) as e:
        raise Halt(f"{argv[0]} cannot be started{f' in {cwd}' if cwd else ''}: {e}") from e
    try:
        async with asyncio.timeout(within):
            out, said = await process.communicate()
    except TimeoutError:
        raise Unavailable(f"{' '.join(argv)} did not end within {format_duration(within)}") from None
    finally:
        await end(process, process.stdout, process.stderr)
    return process.returncode or 0, out.decode(errors="replace"), said.decode(errors="replace")


async def end(process: asyncio.subprocess.Process, *pipes: asyncio.StreamReader | None, patience: float = 5.0) -> None:
    """Kills its process group, where it has not ended by itself, and waits until it is gone, for so many seconds.

    Until Python 3.13 `wait` also waits for the end of every pipe, and a full one that nobody reads never has one
    (cpython#119710): so what is left in these is read. What hangs in the kernel may never go.
    """
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(patience):
            for pipe in pipes:
                while pipe is not None and await pipe.read(1 << 16):
                    pass
            await process.wait()

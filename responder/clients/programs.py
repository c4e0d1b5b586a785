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
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return process.returncode or 0, out.decode(errors="replace"), said.decode(errors="replace")

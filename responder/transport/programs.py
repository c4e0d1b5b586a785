"""The only place that starts processes: with an allow-listed environment, and ended with us or at their deadline."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import IO

from responder.config.durations import format_duration
from responder.errors import StepFailed, Unavailable

_Output = int | IO[bytes]

KEPT = frozenset(
    (
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR"),
        *("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"),  # systemctl --user
        *("SSL_CERT_FILE", "SSL_CERT_DIR"),
    )
)
"""Variables that every program gets, besides LC_*. All others of ours may hold secrets."""


def environment(passed: Collection[str] = (), **extra: str) -> dict[str, str]:
    """The environment of a child process: what is allowed, what the configuration passes on, and `extra`."""
    kept = {n: v for n, v in os.environ.items() if n in KEPT or n.startswith("LC_") or n in passed}
    return {"PATH": os.defpath, **kept, **extra}


async def spawn(
    argv: Sequence[str],
    env: Mapping[str, str],
    *,
    stdout: _Output,
    stderr: _Output,
    stdin: _Output = asyncio.subprocess.DEVNULL,
    cwd: Path | None = None,
    limit: int = 1 << 16,
) -> asyncio.subprocess.Process:
    """Starts a program in a process group of its own. Raises OSError and ValueError."""
    return await asyncio.create_subprocess_exec(
        *argv, env=dict(env), stdin=stdin, stdout=stdout, stderr=stderr, cwd=cwd, limit=limit, start_new_session=True
    )


def version_said(program: str) -> str:
    """What an installed program prints when it is asked for its version."""
    argv = [program, "--version"]
    return subprocess.run(
        argv, env=environment(), check=False, capture_output=True, text=True, timeout=10, stdin=subprocess.DEVNULL
    ).stdout


async def program(
    argv: tuple[str, ...], *, within: float, cwd: Path | None, env: Mapping[str, str]
) -> tuple[int, str, str]:
    """Exit code, standard output, standard error. Its whole process group is killed at the deadline or when we stop."""
    try:
        process = await spawn(argv, env, cwd=cwd, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
    except (OSError, ValueError) as e:
        raise StepFailed(f"{argv[0]} cannot be started{f' in {cwd}' if cwd else ''}: {e}") from e
    try:
        async with asyncio.timeout(within):
            out, stderr = await process.communicate()
    except TimeoutError:
        raise Unavailable(f"{' '.join(argv)} did not end within {format_duration(within)}") from None
    finally:
        await end(process, process.stdout, process.stderr)
    return process.returncode or 0, out.decode(errors="replace"), stderr.decode(errors="replace")


async def end(process: asyncio.subprocess.Process, *pipes: asyncio.StreamReader | None, timeout: float = 5.0) -> None:
    """Kills its process group, where it has not ended by itself, and waits until it is gone, for so many seconds.

    Until Python 3.13 `wait` also waits for the end of every pipe, and a full one that nobody reads never has one
    (cpython#119710): so what is left in these is read. What hangs in the kernel may never go.
    """
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout):
            for pipe in pipes:
                while pipe is not None and await pipe.read(1 << 16):
                    pass
            await process.wait()

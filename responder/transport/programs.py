"""Child processes: an allow-listed environment, and an end with the responder or at a deadline.

No other module starts processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import IO

from foundation.durations import format_duration
from responder.errors import StepFailed, Unavailable

_Output = int | IO[bytes]

KEPT = frozenset(
    (
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR"),
        *("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"),  # systemctl --user
        *("SSL_CERT_FILE", "SSL_CERT_DIR"),
    )
)
"""Variables that every program gets, besides LC_*. Other variables may hold secrets."""


def environment(passed: Collection[str] = (), **extra: str) -> dict[str, str]:
    """Returns the environment of a child process: KEPT, the names in `passed`, and `extra`."""
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
    """Starts a program in its own process group. Raises OSError and ValueError."""
    return await asyncio.create_subprocess_exec(
        *argv, env=dict(env), stdin=stdin, stdout=stdout, stderr=stderr, cwd=cwd, limit=limit, start_new_session=True
    )


def version_output(program: str) -> str:
    """Returns the output of a program with `--version`."""
    argv = [program, "--version"]
    return subprocess.run(
        argv, env=environment(), check=False, capture_output=True, text=True, timeout=10, stdin=subprocess.DEVNULL
    ).stdout


async def program(
    argv: tuple[str, ...], *, within: float, cwd: Path | None, env: Mapping[str, str]
) -> tuple[int, str, str]:
    """Runs a program. Returns exit code, standard output and standard error.

    Kills its process group after `within` seconds and on cancellation. Raises StepFailed and Unavailable.
    """
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
    """Kills the process group of a process that still runs, and waits up to `timeout` seconds until it has ended.

    Until Python 3.13 `wait` also waits for the end of every pipe, which a full, unread pipe never reaches
    (cpython#119710). So the rest of the pipes is read. A process that hangs in the kernel may never end.
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

"""The logs of this host: the end of files, and the output of commands. A hanging disk blocks nothing else.

Reads run in daemon threads. A read of a dead file system cannot be stopped, so its thread is abandoned: it must not
block other reads or the end of the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import glob
import gzip
import os
import stat
import threading
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Self

from responder.errors import StepFailed
from responder.transport.daemon_threads import in_daemon
from responder.transport.programs import end, environment, spawn

_CHUNK = 1 << 18
_MAX_ERROR = 500
_MOST_FILES = 1000


class LogFile(NamedTuple):
    """A file that matches a pattern. `problem`: why it cannot be read; empty if it can."""

    path: Path  # as matched by the pattern
    real: Path  # with links resolved
    at: datetime  # time of the last write
    problem: str = ""
    node: tuple[int, int] = (0, 0)
    size: int = 0


class End(NamedTuple):
    """The last bytes of a file, and its size. `renewed`: the file was rotated since it was found."""

    data: bytes
    size: int
    renewed: bool


class Host:
    """The logs of the host that the responder runs on."""

    @classmethod
    async def connect(cls, settings: Any) -> Self:
        return cls()

    async def close(self) -> None:
        """Nothing is held open."""

    async def files(self, pattern: str) -> list[LogFile]:
        """The files that match a glob, newest first; `**` matches any depth."""
        return await in_daemon(_matching, pattern)

    async def tail(self, file: LogFile, most: int) -> End:
        """The end of a file; of a `.gz` file, the end of its content.

        Raises StepFailed if it cannot be read.
        """
        given_up = threading.Event()
        try:
            return await in_daemon(_tail, file, most, given_up)
        except (OSError, EOFError, ValueError) as e:
            raise StepFailed(f"cannot be read: {getattr(e, 'strerror', None) or e}") from e
        finally:
            given_up.set()

    async def journal(self, since: datetime, lines: int, *more: str) -> AsyncGenerator[bytes, None]:
        """The newest entries of the systemd journal since then, oldest first."""
        when = f"--since=@{since.timestamp():.0f}"
        argv = ("journalctl", "--no-pager", "--output=short-iso-precise", when, f"--lines={lines}", *more)
        async with contextlib.aclosing(self.stream_output(*argv)) as chunks:
            async for chunk in chunks:
                if chunk.strip() != b"-- No entries --":  # --quiet would hide the reason
                    yield chunk

    async def stream_output(self, *argv: str) -> AsyncGenerator[bytes, None]:
        """Streams the output of a command and kills it if the reader stops. Raises StepFailed if it fails."""
        try:
            process = await spawn(argv, environment(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
        except OSError as e:
            raise StepFailed(f"{argv[0]} cannot be started: {e.strerror}") from e
        assert process.stdout and process.stderr  # noqa: S101 - asked for above
        reading_errors = asyncio.create_task(_error_tail(process.stderr))
        try:
            while chunk := await process.stdout.read(_CHUNK):
                yield chunk
            code = await process.wait()
            stderr = await reading_errors
            if code:
                raise StepFailed(f"{argv[0]} exited with {code}: {stderr or '(no output)'}")
        finally:
            await end(process, process.stdout, timeout=1.0)
            reading_errors.cancel()


async def _error_tail(stream: asyncio.StreamReader) -> str:
    tail = bytearray()
    while chunk := await stream.read(4096):
        tail.extend(chunk)
        del tail[:-_MAX_ERROR]
    return tail.decode(errors="replace").strip()


def _matching(pattern: str) -> list[LogFile]:
    # A writer of the log directory must not make the responder read other files through a link.
    home = Path(os.path.realpath(_before_the_glob(pattern)))
    found = []
    for name in glob.glob(pattern, recursive=True):  # noqa: PTH207 - pathlib has no absolute patterns
        path, real = Path(name), Path(os.path.realpath(name))
        try:
            status = real.stat()
        except OSError as e:
            found.append(LogFile(path, real, datetime.now(UTC), f"cannot be read: {e.strerror}"))
            continue
        if stat.S_ISDIR(status.st_mode):
            continue
        problem = "" if stat.S_ISREG(status.st_mode) else "is not a file"
        if not real.is_relative_to(home):
            problem = f"is a link to {real}, outside of {home}"
        at, node = datetime.fromtimestamp(status.st_mtime, UTC), (status.st_dev, status.st_ino)
        found.append(LogFile(path, real, at, problem, node, status.st_size))
    return sorted(found, key=lambda file: file.at, reverse=True)[:_MOST_FILES]


def _before_the_glob(pattern: str) -> str:
    parts = Path(pattern).parts[:-1]
    fixed = next((n for n, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return str(Path(*parts[:fixed]))


def _tail(file: LogFile, most: int, given_up: threading.Event) -> End:
    descriptor = os.open(file.real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as raw:
        status = os.fstat(raw.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is not a file")
        renewed = (status.st_dev, status.st_ino) != file.node or status.st_size < file.size
        if file.path.suffix == ".gz":
            return End(*_end_of(gzip.GzipFile(fileobj=raw), most, given_up), renewed)
        raw.seek(max(status.st_size - most, 0))
        return End(raw.read(most), status.st_size, renewed)


def _end_of(unpacked: gzip.GzipFile, most: int, given_up: threading.Event) -> tuple[bytes, int]:
    kept, total = bytearray(), 0
    while chunk := unpacked.read(_CHUNK):
        if given_up.is_set():
            raise ValueError("the read was abandoned")
        total += len(chunk)
        kept.extend(chunk)
        if len(kept) > 2 * most:
            del kept[:-most]
    return bytes(kept[-most:]), total

"""Where large streams are kept: nothing can be read under its name before it is whole, and memory stays constant."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Protocol

from responder.config.private_files import make_directory, open_file
from responder.errors import StepFailed, Unavailable
from responder.transport.acting import acting

_UNFINISHED = ".unfinished"


BLOCK = 1 << 20
"""Bytes of one block of a stream."""


class Stored(NamedTuple):
    name: str
    size: int
    at: datetime


class Store(Protocol):
    """Names are paths with `/`. Raises `Unavailable` where another try may help, else `Halt`."""

    async def put(self, name: str, blocks: AsyncIterator[bytes]) -> tuple[str, ...]:
        """Keeps the stream; returns the names that it lies under, one after the other. Where the stream raises,
        nothing of it is kept.
        """

    def get(self, name: str) -> AsyncGenerator[bytes]:
        """What lies under a name, in blocks. Raises `Missing` where there is nothing."""

    async def list(self, prefix: str) -> list[Stored]:
        """What is whole under a prefix that ends with `/`, or everywhere under ``."""

    async def delete(self, names: tuple[str, ...]) -> None: ...

    async def clear(self, prefix: str) -> None:
        """Removes all under a prefix that ends with `/`, also what was never finished."""

    async def room(self) -> int | None:
        """Bytes that are free; None where nobody knows. Raises where it cannot be reached or written to."""


class Missing(StepFailed):
    """There is nothing under that name."""


class DirectoryStore:
    """A directory of this host, or one that is mounted on it."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __str__(self) -> str:
        return str(self._root)

    async def put(self, name: str, blocks: AsyncIterator[bytes]) -> tuple[str, ...]:
        whole = self._root / name
        partial = whole.with_name(f"{whole.name}{_UNFINISHED}")
        acting.get()()
        with _told(partial):
            await asyncio.to_thread(make_directory, whole.parent)
            file = await asyncio.to_thread(_open, partial)
        try:
            async for block in blocks:
                acting.get()()
                with _told(partial):
                    await asyncio.to_thread(_write_all, file, block)
            acting.get()()
            with _told(partial):
                await asyncio.to_thread(_finish, file, partial, whole, self._root)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise
        finally:
            with contextlib.suppress(OSError):
                os.close(file)
        return (name,)

    async def get(self, name: str) -> AsyncGenerator[bytes]:
        path = self._root / name
        with _told(path):
            file = await asyncio.to_thread(path.open, "rb")
            try:
                while block := await asyncio.to_thread(file.read, BLOCK):
                    yield block
            finally:
                file.close()

    async def list(self, prefix: str) -> list[Stored]:
        def look() -> list[Stored]:
            found = []
            for path in (self._root / prefix).rglob("*"):
                with contextlib.suppress(FileNotFoundError):
                    if path.is_file() and not path.name.endswith(_UNFINISHED):
                        status = path.stat()
                        at = datetime.fromtimestamp(status.st_mtime, UTC)
                        found.append(Stored(str(path.relative_to(self._root)), status.st_size, at))
            return found

        with _told(self._root):
            return await asyncio.to_thread(look)

    async def delete(self, names: tuple[str, ...]) -> None:
        for name in names:
            acting.get()()
            with _told(path := self._root / name):
                await asyncio.to_thread(path.unlink, True)
        for directory in {parent for name in names for parent in (self._root / name).parents}:
            if directory != self._root and directory.is_relative_to(self._root):
                with contextlib.suppress(OSError):  # not empty
                    directory.rmdir()

    async def clear(self, prefix: str) -> None:
        directory = self._root / prefix
        acting.get()()
        with _told(directory), contextlib.suppress(FileNotFoundError):
            await asyncio.to_thread(shutil.rmtree, directory)

    async def room(self) -> int | None:
        with _told(self._root):
            if not os.access(self._root, os.W_OK | os.X_OK) or not self._root.is_dir():
                raise StepFailed(f"{self._root} is not a directory that we may write to")
            return shutil.disk_usage(self._root).free


def _open(path: Path) -> int:
    return open_file(path, os.O_WRONLY | os.O_TRUNC)


def _write_all(file: int, block: bytes) -> None:
    left = memoryview(block)
    while left:
        left = left[os.write(file, left) :]


def _finish(file: int, partial: Path, whole: Path, root: Path) -> None:
    os.fsync(file)
    partial.replace(whole)
    for directory in whole.parents:  # new directories are entries, too
        entry = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(entry)
        finally:
            os.close(entry)
        if directory == root:
            break


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as e:
        raise Missing(f"{path} is not there") from e
    except (PermissionError, NotADirectoryError, IsADirectoryError) as e:
        raise StepFailed(f"{path}: {e.strerror}") from e
    except OSError as e:
        raise Unavailable(f"{path}: {e.strerror}") from e

"""Object stores for large streams: an object appears when it is complete, and memory use is constant."""

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


class StoredStream(NamedTuple):
    name: str
    size: int
    at: datetime


class ObjectStore(Protocol):
    """Objects by name; names are paths with `/`. Raises Unavailable if a retry may help, else StepFailed."""

    async def put(self, name: str, blocks: AsyncIterator[bytes]) -> tuple[str, ...]:
        """Stores a stream. Returns the names of its parts in order. Stores nothing if the stream raises."""

    def get(self, name: str) -> AsyncGenerator[bytes]:
        """Yields an object in blocks. Raises Missing if it does not exist."""

    async def list(self, prefix: str) -> list[StoredStream]:
        """Returns the complete objects under a prefix that ends with `/`; all of them for an empty prefix."""

    async def delete(self, names: tuple[str, ...]) -> None:
        """Deletes objects. Missing ones are ignored."""

    async def clear(self, prefix: str) -> None:
        """Deletes everything under a prefix that ends with `/`, including unfinished objects."""

    async def room(self) -> int | None:
        """Returns the free bytes, or None if unknown. Raises if the store cannot be reached or written to."""


class MissingObject(StepFailed):
    """There is no object with that name."""


class DirectoryStore:
    """A directory of this host, local or mounted."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __str__(self) -> str:
        return str(self._root)

    async def put(self, name: str, blocks: AsyncIterator[bytes]) -> tuple[str, ...]:
        complete = self._root / name
        partial = complete.with_name(f"{complete.name}{_UNFINISHED}")
        acting.get()()
        with _translated(partial):
            await asyncio.to_thread(make_directory, complete.parent)
            file = await asyncio.to_thread(_open, partial)
        try:
            async for block in blocks:
                acting.get()()
                with _translated(partial):
                    await asyncio.to_thread(_write_all, file, block)
            acting.get()()
            with _translated(partial):
                await asyncio.to_thread(_finish, file, partial, complete, self._root)
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
        with _translated(path):
            file = await asyncio.to_thread(path.open, "rb")
            try:
                while block := await asyncio.to_thread(file.read, BLOCK):
                    yield block
            finally:
                file.close()

    async def list(self, prefix: str) -> list[StoredStream]:
        def look() -> list[StoredStream]:
            found = []
            for path in (self._root / prefix).rglob("*"):
                with contextlib.suppress(FileNotFoundError):
                    if path.is_file() and not path.name.endswith(_UNFINISHED):
                        status = path.stat()
                        at = datetime.fromtimestamp(status.st_mtime, UTC)
                        found.append(StoredStream(str(path.relative_to(self._root)), status.st_size, at))
            return found

        with _translated(self._root):
            return await asyncio.to_thread(look)

    async def delete(self, names: tuple[str, ...]) -> None:
        for name in names:
            acting.get()()
            with _translated(path := self._root / name):
                await asyncio.to_thread(path.unlink, True)
        for directory in {parent for name in names for parent in (self._root / name).parents}:
            if directory != self._root and directory.is_relative_to(self._root):
                with contextlib.suppress(OSError):  # not empty
                    directory.rmdir()

    async def clear(self, prefix: str) -> None:
        directory = self._root / prefix
        acting.get()()
        with _translated(directory), contextlib.suppress(FileNotFoundError):
            await asyncio.to_thread(shutil.rmtree, directory)

    async def room(self) -> int | None:
        with _translated(self._root):
            if not os.access(self._root, os.W_OK | os.X_OK) or not self._root.is_dir():
                raise StepFailed(f"{self._root} is not a writable directory")
            return shutil.disk_usage(self._root).free


def _open(path: Path) -> int:
    return open_file(path, os.O_WRONLY | os.O_TRUNC)


def _write_all(file: int, block: bytes) -> None:
    left = memoryview(block)
    while left:
        left = left[os.write(file, left) :]


def _finish(file: int, partial: Path, complete: Path, root: Path) -> None:
    os.fsync(file)
    partial.replace(complete)
    for directory in complete.parents:  # a new directory is an entry of its parent
        entry = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(entry)
        finally:
            os.close(entry)
        if directory == root:
            break


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as e:
        raise MissingObject(f"{path} does not exist") from e
    except (PermissionError, NotADirectoryError, IsADirectoryError) as e:
        raise StepFailed(f"{path}: {e.strerror}") from e
    except OSError as e:
        raise Unavailable(f"{path}: {e.strerror}") from e

"""Object stores: an object appears when it is complete, and streams of any length need constant memory."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import shutil
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from uuid import uuid4

from responder.config.private_files import make_directory, open_file
from responder.errors import StepFailed, Unavailable
from responder.transport.acting import acting
from responder.transport.daemon_threads import in_daemon

_UNFINISHED = ".unfinished"
_DISCARD_WITHIN = 1.0
"""Seconds that a failed write may take to delete its unfinished file."""

BLOCK = 1 << 20
"""Bytes of one block of a stream."""


class StoredStream(NamedTuple):
    name: str
    size: int
    at: datetime


class Stored(NamedTuple):
    """The objects of a stream, in order.

    `confirmed`: the store returned its own checksum of what it holds, and it is the checksum of the stream.
    """

    names: tuple[str, ...]
    confirmed: bool = False


class ObjectStore(Protocol):
    """Objects by name; names are paths with `/`. Raises Unavailable if a retry may help, else StepFailed."""

    def url(self, name: str) -> str:
        """Returns the location of an object, for people."""

    async def put(self, name: str, blocks: AsyncIterator[bytes]) -> Stored:
        """Stores a stream, in several objects if it is very large. Stores nothing if the stream raises."""

    def get(self, name: str) -> AsyncGenerator[bytes]:
        """Yields an object in blocks. Raises MissingObject if it does not exist."""

    async def list(self, prefix: str, *, unfinished: bool = False) -> list[StoredStream]:
        """Returns the complete objects under a prefix that ends with `/`; all of them for an empty prefix.

        `unfinished`: also the files that a crash left incomplete in a directory.
        """

    async def delete(self, names: tuple[str, ...]) -> None:
        """Deletes objects. Missing ones are ignored."""

    async def clear(self, prefix: str) -> None:
        """Deletes everything under a prefix that ends with `/`, including unfinished objects."""

    async def room(self) -> int | None:
        """Returns the free bytes, or None if unknown. Raises if the store cannot be reached or written to."""


class MissingObject(StepFailed):
    """The object does not exist."""


async def one_block(data: bytes) -> AsyncIterator[bytes]:
    """A stream of one block."""
    yield data


async def read_object(store: ObjectStore, name: str) -> bytes:
    """Returns the content of a small object. Raises MissingObject if it does not exist."""
    async with contextlib.aclosing(store.get(name)) as blocks:
        return b"".join([block async for block in blocks])


class DirectoryStore:
    """A private directory of this host, local or mounted. A mount that hangs blocks only the callers that use it."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __str__(self) -> str:
        return str(self._root)

    def url(self, name: str) -> str:
        return (self._root / name).as_uri()

    async def put(self, name: str, blocks: AsyncIterator[bytes]) -> Stored:
        partial = _PartialFile(self._root, name)
        try:
            await _change(partial.path, partial.create)
            async for block in blocks:
                await _change(partial.path, partial.write, block)
            await _change(partial.path, partial.finish)
        except BaseException:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_DISCARD_WITHIN):
                    await in_daemon(partial.discard)
            raise
        return Stored((name,))

    async def get(self, name: str) -> AsyncGenerator[bytes]:
        path = self._root / name
        with _translated(path):
            file = await in_daemon(lambda: path.open("rb", buffering=0))
            try:
                while block := await in_daemon(file.read, BLOCK):
                    yield block
            finally:
                file.close()

    async def list(self, prefix: str, *, unfinished: bool = False) -> list[StoredStream]:
        with _translated(self._root / prefix):
            return await in_daemon(_files, self._root, prefix, unfinished)

    async def delete(self, names: tuple[str, ...]) -> None:
        for name in names:
            path = self._root / name
            await _change(path, path.unlink, True)
        await in_daemon(_remove_empty, self._root, names)

    async def clear(self, prefix: str) -> None:
        directory = self._root / prefix
        with contextlib.suppress(MissingObject):
            await _change(directory, shutil.rmtree, directory)

    async def room(self) -> int | None:
        def free() -> int:
            if not os.access(self._root, os.W_OK | os.X_OK) or not self._root.is_dir():
                raise StepFailed(f"{self._root} is not a writable directory")
            return shutil.disk_usage(self._root).free

        with _translated(self._root):
            return await in_daemon(free)


class _PartialFile:
    """A file until it is complete. The thread of a cancelled call may run on, but it writes nothing after `discard`."""

    def __init__(self, root: Path, name: str) -> None:
        self._root, self._complete = root, root / name
        self.path = self._complete.with_name(f"{self._complete.name}.{uuid4().hex[:8]}{_UNFINISHED}")
        self._file: io.FileIO | None = None
        self._discarded = False
        self._writing = threading.Lock()

    def create(self) -> None:
        with self._writing:
            if not self._discarded:
                make_directory(self._complete.parent)
                self._file = io.FileIO(open_file(self.path, os.O_WRONLY | os.O_TRUNC), "wb")

    def write(self, block: bytes) -> None:
        left = memoryview(block)
        with self._writing:
            while left and self._file:
                left = left[self._file.write(left) :]

    def finish(self) -> None:
        with self._writing:
            if self._file is None:
                return
            os.fsync(self._file.fileno())
            self.path.replace(self._complete)
            for directory in self._complete.parents:  # a new directory is an entry of its parent
                entry = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    os.fsync(entry)
                finally:
                    os.close(entry)
                if directory == self._root:
                    break
            self._file.close()

    def discard(self) -> None:
        with self._writing:
            self._discarded = True
            if self._file:
                with contextlib.suppress(OSError):
                    self._file.close()
                self._file = None
                self.path.unlink(missing_ok=True)


def _files(root: Path, prefix: str, unfinished: bool) -> list[StoredStream]:
    top, found = root / prefix, []
    if not top.is_dir():
        return []
    os.scandir(top).close()  # raises if it cannot be read: `walk` skips what it cannot read, such as lost+found
    for directory, _, names in os.walk(top):
        for path in (Path(directory, name) for name in names):
            with contextlib.suppress(FileNotFoundError):
                if path.is_file() and (unfinished or not path.name.endswith(_UNFINISHED)):
                    status = path.stat()
                    at = datetime.fromtimestamp(status.st_mtime, UTC)
                    found.append(StoredStream(str(path.relative_to(root)), status.st_size, at))
    return found


def _remove_empty(root: Path, names: tuple[str, ...]) -> None:
    """Removes the directories that the deletion of these names left empty, but not the root."""
    directories = {parent for name in names for parent in (root / name).parents if root in parent.parents}
    for directory in sorted(directories, key=lambda path: len(path.parts), reverse=True):
        with contextlib.suppress(OSError):  # not empty
            directory.rmdir()


async def _change(path: Path, work: Callable[..., None], *args: Any) -> None:
    acting.get()()
    with _translated(path):
        await in_daemon(work, *args)


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Translates errors. They name the path that failed, such as a directory above, or else this one."""
    try:
        yield
    except FileNotFoundError as e:
        raise MissingObject(f"{e.filename or path} does not exist") from e
    except (PermissionError, NotADirectoryError, IsADirectoryError, FileExistsError) as e:
        raise StepFailed(f"{e.filename or path}: {e.strerror}") from e
    except OSError as e:
        raise Unavailable(f"{e.filename or path}: {e.strerror}") from e

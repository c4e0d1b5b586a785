"""The journal in one SQLite file: one process, one writer, many transactions to a sync of the disk."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sqlite3
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Concatenate, ParamSpec, Self, TypeVar
from urllib.parse import quote

from responder.config.private_files import FILE, make_directory, open_file
from responder.errors import ConfigError, Invalid, JournalUnavailable
from responder.journal.database import (
    ChangeBroadcast,
    Row,
    Subscription,
    Transaction,
    load_migrations,
    load_statements,
    storable,
)

T = TypeVar("T")
P = ParamSpec("P")

_CLOCK = "%Y-%m-%dT%H:%M:%f000+00:00"
_DIALECT = {
    "now": f"strftime('{_CLOCK}', 'now')",
    "later": f"strftime('{_CLOCK}', 'now', '+' || :lease || ' seconds')",
}
_MOST_IN_ONE_COMMIT = 64


def _bound(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    # Text of one width and zone, so that it sorts as the times do.
    return value.astimezone(UTC).isoformat(timespec="microseconds") if isinstance(value, datetime) else value


class _DatabaseFailed(JournalUnavailable):
    """The database failed, not one statement: nothing of the whole transaction can be kept."""


def _translated(error: Exception) -> Invalid | JournalUnavailable:
    """An error of the driver in the words of the journal. A value that no database can store is the sender's."""
    detail = f"{type(error).__name__}: {error}"
    if isinstance(error, sqlite3.DataError | OverflowError | UnicodeError):
        return Invalid(f"the journal cannot store this value: {detail}")
    if isinstance(error, sqlite3.IntegrityError):
        return JournalUnavailable(f"the journal cannot be used: {detail}")
    return _DatabaseFailed(f"the journal cannot be used: {detail}")


class _Transaction:
    """Runs statements at once: nothing is ever waited for."""

    def __init__(self, connection: sqlite3.Connection, statements: dict[str, str]) -> None:
        self._connection = connection
        self._statements = statements
        self.notified = False

    async def all(self, query: str, **params: Any) -> list[Row]:
        bound = {name: _bound(value) for name, value in params.items()}
        statement = self._statements[query]
        try:
            cursor = self._connection.execute(statement, bound)
            rows = cursor.fetchall()
        except Exception as e:
            raise _translated(e) from e
        names = [column[0] for column in cursor.description or ()]
        return [{n: _read(n, v) for n, v in zip(names, row, strict=True)} for row in rows]

    async def first(self, query: str, **params: Any) -> Row | None:
        rows = await self.all(query, **params)
        return rows[0] if rows else None

    async def lock(self, key: str) -> None:
        """There is only one writer."""

    def notify(self) -> None:
        self.notified = True


def _read(name: str, value: Any) -> Any:
    if isinstance(value, str) and (name == "at" or name.endswith("_at")):
        return datetime.fromisoformat(value)
    return bool(value) if name in ("changed", "forced") else value


def _run_through(act: Any) -> Any:
    """Runs a coroutine that never really waits to its end, outside of any event loop."""
    try:
        act.send(None)
    except StopIteration as end:
        return end.value
    act.close()
    raise RuntimeError("a transaction awaited something other than its own statements")


_Job = tuple[Callable[[Transaction], Awaitable[Any]], asyncio.Future[Any]]
_Answer = tuple[Any, Exception | None]


class _Reader:
    """A connection with a thread of its own: a long history must not hold up the loop."""

    def __init__(self, file: Path, statements: dict[str, str]) -> None:
        self._statements = statements
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal-reads")
        self._connection = connect(file)

    async def read(self, act: Callable[[Transaction], Awaitable[T]]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._read, act)

    def _read(self, act: Callable[[Transaction], Awaitable[T]]) -> T:
        try:
            self._connection.execute("BEGIN")
            try:
                result: T = _run_through(act(_Transaction(self._connection, self._statements)))
                return result
            finally:
                self._connection.execute("ROLLBACK")
        except (sqlite3.Error, sqlite3.Warning, MemoryError) as e:
            raise _translated(e) from e

    def close(self) -> None:
        self._thread.shutdown()
        self._connection.close()


class _Writer:
    """Runs what is queued together and commits it once.

    Statements run in the loop: they take microseconds, and in a thread of their own each would wait for the
    interpreter's lock. Only the commit, which waits for the disk, is left to a thread; what comes in meanwhile is the
    next batch.
    """

    def __init__(self, file: Path, statements: dict[str, str], notify: Callable[[], None]) -> None:
        self._file, self._statements, self._notify = file, statements, notify
        self._connection = connect(file)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal-commits")
        self._queue: deque[_Job] = deque()
        self._working: asyncio.Task[None] | None = None

    def submit(self, act: Callable[[Transaction], Awaitable[Any]]) -> asyncio.Future[Any]:
        future = asyncio.get_running_loop().create_future()
        self._queue.append((act, future))
        if self._working is None:
            self._working = asyncio.create_task(self._work(), name="journal-writes")
        return future

    async def close(self) -> None:
        if self._working is not None:
            await self._working
        await asyncio.to_thread(self._thread.shutdown)
        self._connection.close()

    async def _work(self) -> None:
        try:
            while self._queue:
                jobs = [self._queue.popleft() for _ in range(min(len(self._queue), _MOST_IN_ONE_COMMIT))]
                answers, notified = await self._commit(jobs)
                for (_, future), (value, error) in zip(jobs, answers, strict=True):
                    if future.cancelled():
                        continue
                    if error is None:
                        future.set_result(value)
                    else:
                        future.set_exception(error)
                if notified:
                    self._notify()
        finally:
            self._working = None

    async def _commit(self, jobs: list[_Job]) -> tuple[list[_Answer], bool]:
        try:
            answers, notified = self._run(jobs)
            await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.execute, "COMMIT")
            return answers, notified
        except Exception as e:  # whatever it is, everybody who waits gets an answer
            with contextlib.suppress(sqlite3.Error):
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
            broken = JournalUnavailable(f"the journal {self._file} cannot be used: {e}")
            broken.__cause__ = e
            return [(None, broken)] * len(jobs), False

    def _run(self, jobs: list[_Job]) -> tuple[list[_Answer], bool]:
        """All of them in one transaction, each behind a savepoint: what fails disturbs no other."""
        answers: list[_Answer] = []
        notified = False
        self._connection.execute("BEGIN IMMEDIATE")
        for act, _ in jobs:
            transaction = _Transaction(self._connection, self._statements)
            self._connection.execute("SAVEPOINT one")
            try:
                answers.append((_run_through(act(transaction)), None))
                notified |= transaction.notified
            except _DatabaseFailed:
                raise
            except Exception as e:
                self._connection.execute("ROLLBACK TO one")
                answers.append((None, e))
            self._connection.execute("RELEASE one")
        return answers, notified


def connect(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False, timeout=5.0)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=5000"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


class Sqlite:
    """One file, held by exactly one process: a second one is refused, and the command line talks HTTP to the first."""

    exclusive = True

    def __init__(self, file: Path, lock: IO[str]) -> None:
        self._lock = lock
        self._bell = ChangeBroadcast()
        self._ear = self._bell.listen()
        statements = load_statements(_DIALECT)
        self._writer = _Writer(file, statements, self._bell.ring)
        self._reader = _Reader(file, statements)

    @classmethod
    async def open(cls, file: Path) -> Self:
        """Opens or makes the file and brings its schema up to date. Raises ConfigError where that cannot be."""
        try:
            make_directory(file.parent)
            lock = os.fdopen(open_file(file.with_name(file.name + ".lock"), os.O_WRONLY), "w")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
                raise ConfigError(
                    [f"state: {file} is in use by another responder; several can share a PostgreSQL, not a file"]
                ) from None
            try:
                _make_private(file)
                migrate(file)
                return cls(file, lock)
            except BaseException:
                lock.close()
                raise
        except (OSError, sqlite3.Error) as e:
            raise ConfigError([f"state: {file} cannot be used: {e}"]) from e

    @staticmethod
    def check(file: Path) -> None:
        """Whether the file could be opened, or made. Makes and changes nothing, and does not ask whether it is in use.

        Raises ConfigError.
        """
        try:
            existing = file if file.exists() else next(path for path in file.parents if path.exists())
            if not os.access(existing, os.R_OK | os.W_OK | (os.X_OK if existing != file else 0)):
                raise ConfigError([f"state: {file} cannot be used: {existing} is not writable by this user"])
            if existing == file:
                # `immutable`: reading leaves no file of its own beside it.
                connection = sqlite3.connect(f"file:{quote(str(file))}?immutable=1", uri=True)
                with contextlib.closing(connection):
                    _refuse_newer(file, connection.execute("PRAGMA user_version").fetchone()[0], len(load_migrations()))
        except (OSError, sqlite3.Error) as e:
            raise ConfigError([f"state: {file} cannot be used: {e}"]) from e

    async def transaction(
        self, act: Callable[Concatenate[Transaction, P], Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        # Shielded: what is queued will be committed, whether or not the one who asked still waits.
        result: T = await asyncio.shield(self._writer.submit(lambda t: act(t, *args, **kwargs)))
        return result

    async def read(
        self, act: Callable[Concatenate[Transaction, P], Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await self._reader.read(lambda t: act(t, *args, **kwargs))

    async def lease_transaction(
        self, act: Callable[Concatenate[Transaction, P], Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await self.transaction(act, *args, **kwargs)

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def changed(self, within: float) -> bool:
        return await self._ear.changed(within)

    def listen(self) -> Subscription:
        return self._bell.listen()

    async def close(self) -> None:
        await self._writer.close()
        await asyncio.to_thread(self._reader.close)
        self._lock.close()


def _make_private(file: Path) -> None:
    """SQLite gives the files beside the database its own mode; those of an older version may have another one."""
    os.close(open_file(file, os.O_RDWR))
    for beside in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            file.with_name(file.name + beside).chmod(FILE)


def migrate(file: Path) -> None:
    """Brings the schema of the file up to date. Raises ConfigError where a newer version wrote it."""
    connection = connect(file)
    try:
        done = connection.execute("PRAGMA user_version").fetchone()[0]
        migrations = load_migrations()
        _refuse_newer(file, done, len(migrations))
        if missing := ";\n".join(migrations[done:]):
            # One transaction: all of them or none, and one sync of the disk.
            connection.executescript(f"BEGIN IMMEDIATE;\n{missing};\nPRAGMA user_version = {len(migrations)};\nCOMMIT;")
    finally:
        connection.close()


def _refuse_newer(file: Path, done: int, known: int) -> None:
    if done > known:
        raise ConfigError([f"state: {file} was written by a newer version (schema {done}, known {known})"])

"""The journal in one SQLite file: one process, one writing thread, many transactions to a sync of the disk."""

from __future__ import annotations

import asyncio
import fcntl
import queue
import sqlite3
import threading
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Concatenate, ParamSpec, Self, TypeVar

from responder.errors import ConfigError, JournalUnavailable
from responder.journal.database import Row, Transaction, load_migrations, load_statements

T = TypeVar("T")
P = ParamSpec("P")

_CLOCK = "%Y-%m-%dT%H:%M:%f000+00:00"
_DIALECT = {
    "now": f"strftime('{_CLOCK}', 'now')",
    "later": f"strftime('{_CLOCK}', 'now', '+' || :lease || ' seconds')",
}
_MOST_IN_ONE_COMMIT = 256


def _bound(value: Any) -> Any:
    # Text of one width and zone, so that it sorts as the times do.
    return value.astimezone(UTC).isoformat(timespec="microseconds") if isinstance(value, datetime) else value


class _Transaction:
    """Runs statements at once: inside the writing thread nothing is ever waited for."""

    def __init__(self, connection: sqlite3.Connection, statements: dict[str, str]) -> None:
        self._connection = connection
        self._statements = statements
        self.notified = False

    async def all(self, query: str, **params: Any) -> list[Row]:
        bound = {name: _bound(value) for name, value in params.items()}
        cursor = self._connection.execute(self._statements[query], bound)
        if cursor.description is None:
            return []
        names = [column[0] for column in cursor.description]
        return [{n: _read(n, v) for n, v in zip(names, row, strict=True)} for row in cursor.fetchall()]

    async def one(self, query: str, **params: Any) -> Row | None:
        rows = await self.all(query, **params)
        return rows[0] if rows else None

    async def lock(self, key: str) -> None:
        """There is only one writer."""

    def notify(self) -> None:
        self.notified = True


def _read(name: str, value: Any) -> Any:
    if isinstance(value, str) and (name == "at" or name.endswith("_at")):
        return datetime.fromisoformat(value)
    return bool(value) if name == "changed" else value


def _run_through(act: Any) -> Any:
    """Runs a coroutine that never really waits to its end, outside of any event loop."""
    try:
        act.send(None)
    except StopIteration as end:
        return end.value
    act.close()
    raise RuntimeError("a transaction awaited something other than its own statements")


class _Thread:
    """A connection with a thread of its own, that takes what is queued and commits it together."""

    def __init__(self, file: Path, statements: dict[str, str], *, writes: bool, notify: Callable[[], None]) -> None:
        self._file, self._statements, self._writes, self._notify = file, statements, writes, notify
        self._queue: queue.SimpleQueue[tuple[Any, Any, asyncio.AbstractEventLoop] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=self._work, name=f"journal-{'writes' if writes else 'reads'}", daemon=True
        )
        self._thread.start()

    def submit(self, act: Callable[[Transaction], Awaitable[Any]]) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._queue.put((act, future, loop))
        return future

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        connection = connect(self._file)
        closing = False
        while not closing:
            batch = [self._queue.get()]
            while self._writes and len(batch) < _MOST_IN_ONE_COMMIT and not self._queue.empty():
                batch.append(self._queue.get())
            closing = None in batch
            jobs = [job for job in batch if job is not None]
            if jobs:
                self._take(connection, jobs)
        connection.close()

    def _take(self, connection: sqlite3.Connection, jobs: list[tuple[Any, Any, asyncio.AbstractEventLoop]]) -> None:
        results: list[tuple[Any, BaseException | None]] = []
        notified = False
        try:
            connection.execute("BEGIN IMMEDIATE" if self._writes else "BEGIN")
            for act, _, _ in jobs:
                transaction = _Transaction(connection, self._statements)
                connection.execute("SAVEPOINT one")
                try:
                    results.append((_run_through(act(transaction)), None))
                    notified |= transaction.notified
                except sqlite3.OperationalError:
                    raise
                except BaseException as e:
                    connection.execute("ROLLBACK TO one")
                    results.append((None, e))
                connection.execute("RELEASE one")
            connection.execute("COMMIT")
        except sqlite3.Error as e:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            broken = JournalUnavailable(f"the journal {self._file} cannot be used: {e}")
            broken.__cause__ = e
            results, notified = [(None, broken)] * len(jobs), False
        loops: dict[asyncio.AbstractEventLoop, list[Any]] = {}
        for (_, future, loop), (value, error) in zip(jobs, results, strict=True):
            loops.setdefault(loop, []).append((future, value, error))
        for loop, answers in loops.items():
            loop.call_soon_threadsafe(_answer, answers)
        if notified:
            self._notify()


def _answer(answers: list[tuple[asyncio.Future[Any], Any, BaseException | None]]) -> None:
    for future, value, error in answers:
        if future.cancelled():
            continue
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)


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
        self._loop = asyncio.get_running_loop()
        self._change = asyncio.Event()
        statements = load_statements(_DIALECT)
        self._writer = _Thread(file, statements, writes=True, notify=self._tell)
        self._reader = _Thread(file, statements, writes=False, notify=self._tell)

    @classmethod
    async def open(cls, file: Path) -> Self:
        """Opens or makes the file and brings its schema up to date. Raises ConfigError where that cannot be."""
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            lock = file.with_name(file.name + ".lock").open("w")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
                raise ConfigError(
                    [f"state: {file} is in use by another responder; several can share a PostgreSQL, not a file"]
                ) from None
            try:
                _migrate(file)
            except BaseException:
                lock.close()
                raise
        except (OSError, sqlite3.Error) as e:
            raise ConfigError([f"state: {file} cannot be used: {e}"]) from e
        return cls(file, lock)

    async def transaction(
        self, act: Callable[Concatenate[Transaction, P], Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        # Shielded: what is queued will be committed, whether or not the one who asked still waits.
        result: T = await asyncio.shield(self._writer.submit(lambda t: act(t, *args, **kwargs)))
        return result

    async def read(
        self, act: Callable[Concatenate[Transaction, P], Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        result: T = await asyncio.shield(self._reader.submit(lambda t: act(t, *args, **kwargs)))
        return result

    async def changed(self, within: float) -> bool:
        try:
            async with asyncio.timeout(within):
                await self._change.wait()
        except TimeoutError:
            return False
        self._change.clear()
        return True

    def _tell(self) -> None:
        self._loop.call_soon_threadsafe(self._change.set)

    async def close(self) -> None:
        await asyncio.to_thread(self._writer.close)
        await asyncio.to_thread(self._reader.close)
        self._lock.close()


def _migrate(file: Path) -> None:
    connection = connect(file)
    try:
        done = connection.execute("PRAGMA user_version").fetchone()[0]
        migrations = load_migrations()
        if done > len(migrations):
            raise ConfigError(
                [f"state: {file} was written by a newer version (schema {done}, known {len(migrations)})"]
            )
        for number, sql in enumerate(migrations[done:], done + 1):
            connection.executescript(f"BEGIN IMMEDIATE; {sql}; PRAGMA user_version = {number}; COMMIT;")
    finally:
        connection.close()

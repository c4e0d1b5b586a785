"""The two connections of the journal in SQLite: one that reads, and one that writes and commits in batches."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from responder.errors import Invalid, JournalUnavailable
from responder.journal.database import Row, Transaction, storable
from responder.journal.sqlite.schema import connect
from responder.transport.turns import Turn

T = TypeVar("T")

_MOST_IN_ONE_COMMIT = 64

_TURNS_OF_A_COMMIT = 10
"""Turns after which a batch takes no further job, so that its jobs do not wait long for the others' statements."""


def _bound(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    # Text of one width and zone, so that it sorts as the times do.
    return value.astimezone(UTC).isoformat(timespec="microseconds") if isinstance(value, datetime) else value


class _DatabaseFailed(JournalUnavailable):
    """The database failed as a whole, so the entire batch is lost."""


def _translated(error: Exception) -> Invalid | JournalUnavailable:
    """The journal's error for an error of the driver. A value that cannot be stored is the sender's error."""
    detail = f"{type(error).__name__}: {error}"
    if isinstance(error, sqlite3.DataError | OverflowError | UnicodeError):
        return Invalid(f"the journal cannot store this value: {detail}")
    if isinstance(error, sqlite3.IntegrityError):
        return JournalUnavailable(f"the journal cannot be used: {detail}")
    return _DatabaseFailed(f"the journal cannot be used: {detail}")


class _Transaction:
    """Runs each statement immediately, without suspending."""

    def __init__(self, connection: sqlite3.Connection, statements: dict[str, str]) -> None:
        self._connection = connection
        self._statements = statements
        self.notified = False

    async def all(self, query: str, **params: Any) -> list[Row]:
        bound = {name: _bound(value) for name, value in params.items()}
        try:
            cursor = self._connection.execute(self._statements[query], bound)
            rows = cursor.fetchall()
        except Exception as e:
            raise _translated(e) from e
        return [*_as_dicts(cursor, rows)] if rows else []

    async def first(self, query: str, **params: Any) -> Row | None:
        rows = await self.all(query, **params)
        return rows[0] if rows else None

    async def lock(self, key: str) -> None:
        """Does nothing: there is only one writer."""

    def notify(self) -> None:
        self.notified = True


def _as_dicts(cursor: sqlite3.Cursor, rows: list[tuple[Any, ...]]) -> list[dict[str, Any]]:
    names = [column[0] for column in cursor.description]
    found = [dict(zip(names, row, strict=True)) for row in rows]
    for name in names:
        if convert := _converter(name):
            for row in found:
                row[name] = convert(row[name])
    return found


def _converter(name: str) -> Callable[[Any], Any] | None:
    """What makes a Python value of the stored one, by the name of the column."""
    if name == "at" or name.endswith("_at"):
        return _time
    return bool if name in ("changed", "forced") else None


def _time(value: Any) -> Any:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def _run_through(act: Any) -> Any:
    """Runs a coroutine that never suspends to its end, outside of an event loop."""
    try:
        act.send(None)
    except StopIteration as end:
        return end.value
    act.close()
    raise RuntimeError("a transaction awaited something other than its own statements")


_Job = tuple[Callable[[Transaction], Awaitable[Any]], asyncio.Future[Any]]
_Answer = tuple[Any, Exception | None]


class _Pause:
    """What a transaction awaits to let other tasks run."""

    def __await__(self) -> Generator[_Pause, None, None]:
        yield self


class _PausingTransaction(_Transaction):
    """Lets other tasks run between two statements whenever `pauses` says so."""

    def __init__(self, connection: sqlite3.Connection, statements: dict[str, str], pauses: Callable[[], bool]) -> None:
        super().__init__(connection, statements)
        self._pauses = pauses

    async def all(self, query: str, **params: Any) -> list[Row]:
        rows = await super().all(query, **params)
        if self._pauses():
            await _Pause()
        return rows


async def _run_in_turns(act: Any, turn: Turn) -> Any:
    """Runs a coroutine that suspends only to let other tasks run."""
    while True:
        try:
            paused = isinstance(act.send(None), _Pause)
        except StopIteration as end:
            return end.value
        if not paused:
            act.close()
            raise RuntimeError("a transaction awaited something other than its own statements")
        await turn.pass_on()


class SqliteReader:
    """A connection with its own thread, so that long reads do not block the event loop."""

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


class SqliteWriter:
    """Runs the queued transactions together, and commits them at once.

    Statements run in the event loop: they take microseconds, and in a thread each would wait for the interpreter lock.
    Every few milliseconds other tasks run. Only the commit, which waits for the disk, runs in a thread. Jobs that
    arrive meanwhile form the next batch. Bulk jobs run when no others wait.
    """

    def __init__(self, file: Path, statements: dict[str, str], notify: Callable[[], None]) -> None:
        self._file, self._statements, self._notify = file, statements, notify
        self._connection = connect(file)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal-commits")
        self._queue: deque[_Job] = deque()
        self._bulk: deque[_Job] = deque()
        self._working: asyncio.Task[None] | None = None

    def submit(self, act: Callable[[Transaction], Awaitable[Any]], *, bulk: bool = False) -> asyncio.Future[Any]:
        future = asyncio.get_running_loop().create_future()
        (self._bulk if bulk else self._queue).append((act, future))
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
            while job := self._next_job():
                jobs = [job]
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

    def _next_job(self) -> _Job | None:
        queue = self._queue or self._bulk
        return queue.popleft() if queue else None

    async def _commit(self, jobs: list[_Job]) -> tuple[list[_Answer], bool]:
        """Runs the jobs, and more that wait, which it appends. Returns the answers, and whether to notify."""
        try:
            answers, notified = await self._run(jobs)
            await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.execute, "COMMIT")
            return answers, notified
        except Exception as e:  # every waiting caller gets an answer
            with contextlib.suppress(sqlite3.Error):
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
            broken = JournalUnavailable(f"the journal {self._file} cannot be used: {e}")
            broken.__cause__ = e
            return [(None, broken)] * len(jobs), False

    async def _run(self, jobs: list[_Job]) -> tuple[list[_Answer], bool]:
        """All jobs in one transaction, each with a savepoint, so that a failed one does not affect the others."""
        answers: list[_Answer] = []
        notified = False
        turn = Turn()
        self._connection.execute("BEGIN IMMEDIATE")
        for act, _ in jobs:  # which grows
            # Without a pause while jobs wait that do not belong to a storm.
            pauses = lambda: turn.over and not self._queue  # noqa: E731
            transaction = _PausingTransaction(self._connection, self._statements, pauses)
            self._connection.execute("SAVEPOINT job")
            try:
                answers.append((await _run_in_turns(act(transaction), turn), None))
                notified |= transaction.notified
            except _DatabaseFailed:
                raise
            except Exception as e:
                self._connection.execute("ROLLBACK TO job")
                answers.append((None, e))
            self._connection.execute("RELEASE job")
            full = len(jobs) >= _MOST_IN_ONE_COMMIT or turn.number > _TURNS_OF_A_COMMIT
            if not full and (job := self._next_job()):
                jobs.append(job)
        return answers, notified

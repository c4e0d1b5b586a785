"""Whatever the database or its driver does, callers of the journal get its own errors, and soon."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import sqlite3
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from asyncpg import exceptions

from responder.errors import ConfigError, Conflict, Invalid, JournalUnavailable
from responder.journal import Database, Transaction, executions, open_journal
from responder.journal.postgres.database import PostgresJournal
from responder.journal.postgres.sessions import Timeouts
from responder.journal.sqlite.database import Sqlite
from tests import parts
from tests.journals import journal, state  # noqa: F401
from tests.responder.journal.test_journal import accept

LEASE = 2.0


def _hierarchy() -> Iterator[Exception]:
    for _, found in inspect.getmembers(exceptions, inspect.isclass):
        if issubclass(found, Exception):
            yield found("an error")
    for plain in (OSError, ConnectionResetError, BrokenPipeError, TimeoutError, EOFError, ssl.SSLError):
        yield plain("an error")
    # Internal errors of the driver if a connection is lost at an awkward moment.
    yield from (asyncio.InvalidStateError("an error"), AttributeError("an error"), RuntimeError("an error"))


class _Session:
    """A session of PostgreSQL that raises at one statement."""

    def __init__(self, error: Exception, at: str) -> None:
        self.error, self.at, self.terminated, self.statements = error, at, False, list[str]()

    async def acquire(self, timeout: float) -> Any:
        return await self._ask("acquire", self)

    async def release(self, connection: Any, timeout: float) -> None:
        await self._ask("release", None)

    async def execute(self, sql: str, *args: Any, **more: Any) -> Any:
        return await self._ask(sql.split()[0], "COMMIT")

    async def fetch(self, sql: str, *args: Any) -> Any:
        return await self._ask("fetch", [])

    def terminate(self) -> None:
        self.terminated = True

    async def _ask(self, what: str, answer: Any) -> Any:
        self.statements.append(what)
        if what == self.at:
            raise self.error
        return answer


async def _look(tx: Transaction) -> None:
    await tx.lock("a key")
    await tx.all("switch", name="kill")
    tx.notify()


@pytest.mark.parametrize("at", ["acquire", "BEGIN", "SELECT", "fetch", "NOTIFY", "COMMIT"])
async def test_every_error_of_asyncpg_is_translated(at: str) -> None:
    errors = list(_hierarchy())
    assert len(errors) > 250
    for error in errors:
        session = _Session(error, at)
        with pytest.raises((JournalUnavailable, Invalid), match=type(error).__name__) as raised:
            await _opened(session).transaction(_look)
        is_value = str(getattr(error, "sqlstate", None) or "").startswith("22")
        assert type(raised.value) is (Invalid if is_value else JournalUnavailable), error
        if at != "acquire":
            assert session.statements.count("acquire") == session.statements.count("release"), error
        if at == "COMMIT" and not isinstance(error, asyncpg.PostgresError):
            assert session.statements.count("BEGIN") == 1, f"{error!r}: it may be committed, and must not run twice"
            assert session.terminated and "ROLLBACK" not in session.statements, (
                f"{error!r}: a silent server answers nothing"
            )


def _opened(session: _Session) -> PostgresJournal:
    opened = PostgresJournal("postgresql://nowhere", session, session, Timeouts.of(LEASE))
    opened._not_ready = ""
    return opened


async def test_a_failed_release_of_a_connection_hides_no_error() -> None:
    await _opened(_Session(OSError("an error"), "release")).transaction(_look)


class _File:
    """The connection to a file, which raises at one statement."""

    def __init__(self, connection: sqlite3.Connection, error: Exception, at: str) -> None:
        self._connection, self._error, self._at = connection, error, at

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def execute(self, sql: str, *args: Any) -> Any:
        if sql.split()[0] == self._at:
            raise self._error
        return self._connection.execute(sql, *args)

    def close(self) -> None:
        self._connection.close()


_SQLITE = [
    found
    for _, found in inspect.getmembers(sqlite3, inspect.isclass)
    if issubclass(found, sqlite3.Error | sqlite3.Warning)
]


@pytest.mark.parametrize("at", ["BEGIN", "SAVEPOINT", "SELECT", "RELEASE", "COMMIT"])
async def test_every_error_of_sqlite_is_translated(tmp_path: Path, at: str) -> None:
    opened = await Sqlite.open(tmp_path / "state.db")
    writer = opened._writer
    whole = writer._connection
    for error in (*_SQLITE, OverflowError, MemoryError):
        writer._connection = _File(whole, error("an error"), at)  # type: ignore[assignment]
        with pytest.raises((JournalUnavailable, Invalid), match="an error"):
            await opened.transaction(_look)
        writer._connection = whole
        await opened.transaction(_look)
    await opened.close()


@pytest.mark.parametrize("at", ["BEGIN", "SELECT", "ROLLBACK"])
async def test_every_error_of_a_reader_of_sqlite_is_translated(tmp_path: Path, at: str) -> None:
    opened = await Sqlite.open(tmp_path / "state.db")
    reader = opened._reader
    whole = reader._connection
    for error in (*_SQLITE, MemoryError):
        reader._connection = _File(whole, error("an error"), at)  # type: ignore[assignment]
        with pytest.raises((JournalUnavailable, Invalid), match="an error"):
            await opened.read(_look)
        reader._connection = whole
        if whole.in_transaction:
            whole.execute("ROLLBACK")
        await opened.read(_look)
    await opened.close()


async def test_a_file_locked_by_another_process_is_unavailable(tmp_path: Path) -> None:
    opened = await open_journal(f"sqlite://{tmp_path / 'state.db'}")

    async def impatient(tx: Any) -> None:
        tx._connection.execute("PRAGMA busy_timeout = 10")

    await opened.transaction(impatient)
    other = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    with contextlib.closing(other):
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalUnavailable, match="database is locked"):
            await accept(opened)
        other.execute("ROLLBACK")
    await accept(opened)
    await opened.close()


async def test_a_value_that_no_database_stores_is_the_senders_error(journal: Database) -> None:  # noqa: F811
    async def store(tx: Transaction) -> None:
        await tx.all("outbox", most=2**70)

    with pytest.raises(Invalid, match="cannot store"):
        await journal.transaction(store)
    await accept(journal)


async def test_errors_of_the_transactions_own_code_are_left_unchanged(journal: Database) -> None:  # noqa: F811
    async def refuse(tx: Transaction) -> None:
        await tx.all("switch", name="kill")
        raise Conflict("in use")

    with pytest.raises(Conflict, match="in use"):
        await journal.transaction(refuse)


async def test_a_deadlock_is_retried(postgres_server: Any) -> None:
    dsn = await postgres_server.database("deadlocks")
    first, second = await open_journal(dsn), await open_journal(dsn)
    both, runs = asyncio.Barrier(2), []

    async def lock(tx: Transaction, key: str, next_key: str) -> None:
        runs.append(key)
        await tx.lock(key)
        if len(runs) <= 2:
            await both.wait()
        await tx.lock(next_key)

    await asyncio.gather(first.transaction(lock, "a", "b"), second.transaction(lock, "b", "a"))
    assert len(runs) > 2, "there was no deadlock"
    await first.close()
    await second.close()


async def test_a_replica_that_stalls_in_a_transaction_loses_its_locks(postgres_server: Any) -> None:
    dsn = await postgres_server.database("stalls")
    frozen, healthy = await open_journal(dsn, lease=LEASE), await open_journal(dsn, lease=LEASE)
    holds, continues = asyncio.Event(), asyncio.Event()

    async def stall(tx: Transaction) -> None:
        await tx.lock("shop/production")
        holds.set()
        await continues.wait()
        await tx.all("switch", name="kill")

    async def lock(tx: Transaction) -> None:
        await tx.lock("shop/production")

    stalled = asyncio.create_task(frozen.transaction(stall))
    await holds.wait()
    queued = [asyncio.create_task(frozen.transaction(lock)) for _ in range(5)]
    await asyncio.gather(*(healthy.transaction(lock) for _ in range(5)))
    continues.set()
    with pytest.raises(JournalUnavailable):
        await stalled
    await asyncio.gather(*queued)
    await frozen.close()
    await healthy.close()


async def test_a_replica_that_stalls_between_two_halves_of_a_statement_loses_its_locks(postgres_server: Any) -> None:
    """PostgreSQL has no timeout for this: the driver prepared a statement and never executes it."""
    dsn = await postgres_server.database("half")
    frozen, healthy = await open_journal(dsn, lease=LEASE), await open_journal(dsn, lease=LEASE)
    frozen._background.pop().cancel()  # type: ignore[attr-defined]  # a frozen replica ends no session
    holds, continues = asyncio.Event(), asyncio.Event()

    async def stall(tx: Any) -> None:
        await tx.lock("shop/production")
        await tx._connection.prepare("SELECT 'never executed'")
        holds.set()
        await continues.wait()
        await tx.all("switch", name="kill")

    async def lock(tx: Transaction) -> None:
        await tx.lock("shop/production")

    stalled = asyncio.create_task(frozen.transaction(stall))
    await holds.wait()
    async with asyncio.timeout(LEASE + 5):
        while True:
            with contextlib.suppress(JournalUnavailable):
                await healthy.transaction(lock)
                break
    continues.set()
    with pytest.raises(JournalUnavailable):
        await stalled
    await frozen.close()
    await healthy.close()


async def test_a_connection_lost_while_it_is_made_does_not_end_listening(
    postgres_server: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened = await open_journal(await postgres_server.database("listens"), lease=LEASE)
    whole, lost = Timeouts.watch_network, []

    def lose(self: Timeouts, connection: Any) -> None:
        monkeypatch.setattr(Timeouts, "watch_network", whole)
        lost.append(connection)
        raise OSError("Bad file descriptor")

    monkeypatch.setattr(Timeouts, "watch_network", lose)
    assert await opened.changed(0.0), "from the start"
    assert await opened.changed(60), "it listens again, and reports possible changes"
    assert lost
    await opened.close()


async def test_a_busy_pool_does_not_delay_the_renewal_of_the_lease(postgres_server: Any) -> None:
    opened = await open_journal(await postgres_server.database("busy"), lease=60.0)
    continues, entered = asyncio.Event(), asyncio.Semaphore(0)

    async def wait(tx: Transaction) -> None:
        entered.release()
        await continues.wait()

    busy = [asyncio.create_task(opened.transaction(wait)) for _ in range(10)]
    for _ in busy:
        await entered.acquire()
    waiting = asyncio.create_task(opened.read(wait))
    await opened.lease_transaction(executions.register, "w1", 60.0, opened.now())
    assert await opened.lease_transaction(executions.renew, "w1", 60.0)
    assert not waiting.done()
    continues.set()
    await asyncio.gather(*busy, waiting)
    await opened.close()


async def test_every_session_has_timeouts_below_the_lease(postgres_server: Any) -> None:
    dsn = await postgres_server.database("bounds")
    opened = await open_journal(dsn, lease=8.0)
    settings: dict[str, int] = {}

    async def ask(tx: Any) -> None:
        names = ("idle_in_transaction_session_timeout", "lock_timeout", "statement_timeout")
        for name in names:
            settings[name] = await tx._connection.fetchval(
                f"SELECT setting::int FROM pg_settings WHERE name = '{name}'"
            )

    for transaction in (opened.transaction, opened.read, opened.lease_transaction):
        settings.clear()
        await transaction(ask)
        assert 0 < settings["lock_timeout"] < settings["idle_in_transaction_session_timeout"] < 8000
        assert 0 < settings["statement_timeout"] < 8000
    await opened.close()


async def test_an_unavailable_journal_is_awaited_at_startup(tmp_path: Path) -> None:
    parts.need("postgres")
    async with parts.postgres(tmp_path) as server:
        dsn = await server.database("comes_later")
        await server.stop()
        with pytest.raises(ConfigError, match="PostgreSQL cannot be used"):
            await open_journal(dsn)
        opened = await open_journal(dsn, wait=True)
        for ask in (opened.transaction, opened.read, opened.lease_transaction):
            with pytest.raises(JournalUnavailable, match=r"Connect|refused|No such file"):
                await ask(_look)
        await server.start()
        async with asyncio.timeout(30):
            while True:
                try:
                    await accept(opened)
                    break
                except JournalUnavailable:
                    await asyncio.sleep(0.05)
        await opened.close()


@pytest.mark.parametrize("wrong", ["a_database_that_nobody_made", "newer"])
async def test_a_configuration_mistake_is_reported_at_once(postgres_server: Any, wrong: str) -> None:
    dsn = await postgres_server.database(f"mistaken_{wrong}")
    if wrong == "newer":
        await (await open_journal(dsn)).close()
        raw = await asyncpg.connect(dsn)
        await raw.execute("INSERT INTO schema_version VALUES (99)")
        await raw.close()
    else:
        dsn = dsn.replace("mistaken_", "nobody_made_")
    with pytest.raises(ConfigError):
        await open_journal(dsn, wait=True)

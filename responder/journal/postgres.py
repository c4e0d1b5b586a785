"""The journal in a PostgreSQL that users already run, shared by several replicas."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import re
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import asyncpg

from responder.errors import ConfigError, JournalUnavailable
from responder.journal.database import (
    ChangeBroadcast,
    Row,
    Subscription,
    Transaction,
    load_migrations,
    load_statements,
    storable,
)
from responder.journal.postgres_sessions import DriverError, Timeouts, ask
from responder.logging import say

log = logging.getLogger("responder.journal")

T = TypeVar("T")
P = ParamSpec("P")

_DIALECT = {"now": "clock_timestamp()", "later": "clock_timestamp() + make_interval(secs => :lease)"}
_CHANNEL = "rollback_responder"
_MIGRATING = 0x726F6C6C  # any number that nobody else locks by chance: 'roll'
_MIGRATES_WITHIN = 300.0
"""Seconds for one statement of a migration: on a long history an index takes longer than any other statement may."""
_ATTEMPTS = {"conflict": 5, "connection": 2, "other": 1}
_END_STALLED = """
SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user
  AND application_name = current_setting('application_name')
  AND pid <> pg_backend_pid() AND xact_start IS NOT NULL AND state = 'active' AND wait_event = 'ClientRead'
  AND state_change < clock_timestamp() - make_interval(secs => $1)
"""
_SLOW_MEASUREMENT = 0.5
"""Seconds: a round trip that takes longer says too little about the difference between two clocks."""
_VIEWS = (
    "rollback_history",
    "rollback_parts",
    "rollback_steps",
    "rollback_events",
    "rollback_alerts",
    "rollback_decisions",
    "deployments",
    "service_versions",
    "evidence_kept",
    "platform_deployments",
    "version_marks",
    "version_requirements",
    "client_changes",
)


def _numbered(sql: str) -> tuple[str, list[str]]:
    """`:name` parameters as PostgreSQL's `$1`, and their names in order."""
    names: list[str] = []

    def number(found: re.Match[str]) -> str:
        if found[1] not in names:
            names.append(found[1])
        return f"${names.index(found[1]) + 1}"

    return re.sub(r"(?<![:\w]):([a-z_]+)", number, sql), names


class _Transaction:
    def __init__(self, connection: Any, statements: dict[str, tuple[str, list[str]]]) -> None:
        self._connection = connection
        self._statements = statements
        self.notified = False

    async def all(self, query: str, **params: Any) -> list[Row]:
        sql, names = self._statements[query]
        rows: list[Row] = await ask(self._connection.fetch, sql, *(_bound(params[name]) for name in names))
        return [{name: _read(value) for name, value in row.items()} for row in rows]

    async def first(self, query: str, **params: Any) -> Row | None:
        rows = await self.all(query, **params)
        return rows[0] if rows else None

    async def lock(self, key: str) -> None:
        await ask(self._connection.execute, "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", key)

    def notify(self) -> None:
        self.notified = True


def _bound(value: Any) -> Any:
    return storable(value) if isinstance(value, str) else value


def _read(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) else value


def _boottime() -> float:
    # Continues while the machine sleeps and does not jump with the wall clock.
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Postgres:
    """A pool for the work, one connection for the lease, and one that listens and measures the clock."""

    exclusive = False

    def __init__(self, dsn: str, pool: Any, lease_pool: Any, timeouts: Timeouts) -> None:
        self._dsn, self._pool, self._lease_pool, self._timeouts = dsn, pool, lease_pool, timeouts
        self._statements = {name: _numbered(sql) for name, sql in load_statements(_DIALECT).items()}
        self._bell = ChangeBroadcast()
        self._ear = self._bell.listen()
        self._ahead: timedelta | None = None  # of the database's clock, against CLOCK_BOOTTIME since the epoch
        self._not_ready = "it was not reached yet"
        self._background: list[asyncio.Task[None]] = []

    @classmethod
    async def open(cls, dsn: str, *, lease: float = 15.0, wait: bool = False) -> Self:
        """Connects and brings the schema up to date.

        Raises ConfigError where the configuration is wrong. Where PostgreSQL is away, that is an error as well, unless
        `wait`: then every method raises JournalUnavailable until PostgreSQL is there and the schema is up to date.
        """
        timeouts = Timeouts.of(lease)

        async def pool(size: int) -> Any:
            return await asyncpg.create_pool(
                dsn,
                min_size=0,
                max_size=size,
                command_timeout=timeouts.client,
                timeout=timeouts.connect,
                server_settings=timeouts.server_settings,
                init=_init(timeouts),
                reset=_keep_session,
            )

        opened = cls(dsn, await pool(10), await pool(1), timeouts)
        try:
            await opened._prepare()
        except DriverError as e:
            if e.is_configuration or not wait:
                await opened.close()
                raise ConfigError([f"state: PostgreSQL cannot be used: {e}"]) from e
            opened._waits_for(e)
            opened._start(opened._prepare_later())
        except BaseException:
            await opened.close()
            raise
        opened._start(opened._listen())
        return opened

    @staticmethod
    async def check(dsn: str) -> None:
        """Whether the journal could be opened. Changes nothing: replicas of an older version may be at work.

        Raises ConfigError.
        """
        try:
            connection = await ask(asyncpg.connect, dsn, timeout=5.0, command_timeout=5.0)
            try:
                await _check(connection)
            finally:
                await ask(connection.close, timeout=5.0)
        except DriverError as e:
            raise ConfigError([f"state: PostgreSQL cannot be used: {e}"]) from e

    def _start(self, work: Any) -> None:
        self._background.append(asyncio.create_task(work, name=f"journal-{work.__name__.strip('_')}"))

    async def _prepare(self) -> None:
        connection = await ask(self._pool.acquire, timeout=self._timeouts.connect)
        try:
            await self._measure(connection)
            await _migrate(connection)
        except BaseException:
            _terminate(connection)
            raise
        finally:
            await self._release(self._pool, connection)
        self._not_ready = ""
        self._bell.ring()

    async def _prepare_later(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            try:
                await self._prepare()
            except (DriverError, ConfigError) as e:
                self._waits_for(e)
            else:
                say(log, "journal ready")
                return

    def _waits_for(self, error: DriverError | ConfigError) -> None:
        if (problem := str(error)) != self._not_ready:
            self._not_ready = problem
            say(log, "waiting for the journal", level=logging.ERROR, reason=problem)

    def now(self) -> datetime:
        if self._ahead is None:
            return datetime.now(UTC)
        return datetime.fromtimestamp(_boottime(), UTC) + self._ahead

    async def _measure(self, connection: Any) -> None:
        began = _boottime()
        at: datetime = await ask(connection.fetchval, "SELECT clock_timestamp()")
        took = _boottime() - began
        if self._ahead is None or took < _SLOW_MEASUREMENT:
            self._ahead = at - datetime.fromtimestamp(began + took / 2, UTC)

    async def _end_stalled(self, connection: Any) -> None:
        """Ends sessions of ours that stall where PostgreSQL has no bound of its own.

        It bounds an idle transaction, but not one whose client stalls between the two halves of a statement (the driver
        prepares, then executes) or in the middle of sending one.
        """
        for pid in await ask(connection.fetch, _END_STALLED, self._timeouts.idle):
            say(log, "stalled session ended", level=logging.WARNING, pid=pid["pid"])

    async def transaction(
        self, act: Callable[Concatenate[Transaction, P], Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await self._run(self._pool, "BEGIN", lambda tx: act(tx, *args, **kwargs))

    async def lease_transaction(
        self, act: Callable[Concatenate[Transaction, P], Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await self._run(self._lease_pool, "BEGIN", lambda tx: act(tx, *args, **kwargs))

    async def read(
        self, act: Callable[Concatenate[Transaction, P], Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
        return await self._run(self._pool, begin, lambda tx: act(tx, *args, **kwargs))

    async def _run(self, pool: Any, begin: str, act: Callable[[Transaction], Awaitable[T]]) -> T:
        """Runs it, and again where another session was in the way, or a connection had died before we used it."""
        if self._not_ready:
            raise JournalUnavailable(f"the journal cannot be used: {self._not_ready}")
        until = _boottime() + self._timeouts.budget
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._run_once(pool, begin, act)
            except DriverError as e:
                if attempt >= _ATTEMPTS[e.kind] or _boottime() >= until:
                    raise e.translated() from e.cause
                await asyncio.sleep(random.uniform(0.0, 0.05))  # noqa: S311  # two that met must not meet again

    async def _run_once(self, pool: Any, begin: str, act: Callable[[Transaction], Awaitable[T]]) -> T:
        connection = await ask(pool.acquire, timeout=self._timeouts.client)
        begun = False
        try:
            await ask(connection.execute, begin)
            begun = True
            transaction = _Transaction(connection, self._statements)
            result = await act(transaction)
            if transaction.notified:  # delivered at the commit, and only then
                await ask(connection.execute, f"NOTIFY {_CHANNEL}")
            await _commit(connection)
            return result
        except BaseException as e:
            await _undo(connection, e)
            if begun and isinstance(e, DriverError) and e.kind == "connection":
                raise e.translated() from e.cause  # who stalled for so long must not decide by what it knew before
            raise
        finally:
            await self._release(pool, connection)

    async def _release(self, pool: Any, connection: Any) -> None:
        """Never raises, and never waits for a server that is silent."""
        with contextlib.suppress(Exception):
            await pool.release(connection, timeout=self._timeouts.connect)

    async def changed(self, within: float) -> bool:
        return await self._ear.changed(within)

    def listen(self) -> Subscription:
        return self._bell.listen()

    async def _listen(self) -> None:
        """Listens until the journal is closed. While it cannot, callers of `changed` poll."""
        while True:
            with contextlib.suppress(DriverError):
                connection = await ask(
                    asyncpg.connect,
                    self._dsn,
                    timeout=self._timeouts.connect,
                    command_timeout=self._timeouts.client,
                    server_settings=self._timeouts.server_settings,
                )
                lost = asyncio.Event()
                connection.add_termination_listener(lambda *_, gone=lost: gone.set())
                try:
                    await ask(_init(self._timeouts), connection)
                    await ask(connection.add_listener, _CHANNEL, lambda *_: self._bell.ring())
                    self._bell.ring()  # something may have happened while nobody listened
                    while not lost.is_set():
                        await self._measure(connection)
                        await self._end_stalled(connection)
                        with contextlib.suppress(TimeoutError):
                            async with asyncio.timeout(self._timeouts.idle / 2):
                                await lost.wait()
                finally:
                    connection.terminate()
            await asyncio.sleep(0.5)

    async def close(self) -> None:
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        for pool in (self._pool, self._lease_pool):
            with contextlib.suppress(Exception):
                async with asyncio.timeout(2):
                    await pool.close()
            pool.terminate()


def _init(timeouts: Timeouts) -> Callable[[Any], Awaitable[None]]:
    async def init(connection: Any) -> None:
        timeouts.watch_network(connection)

    return init


async def _keep_session(connection: Any) -> None:
    """Nothing of ours outlasts its transaction, so there is nothing to reset at the price of a round trip."""


async def _commit(connection: Any) -> None:
    """Raises JournalUnavailable where nobody can say whether it was committed: then it must not be run again."""
    try:
        done = await ask(connection.execute, "COMMIT")
    except DriverError as e:
        if e.session_lives:
            raise
        raise JournalUnavailable(f"the journal did not confirm a commit: {e}") from e.cause
    if done != "COMMIT":
        raise JournalUnavailable(f"the journal cannot be used: PostgreSQL answered {done} to a commit")


async def _undo(connection: Any, error: BaseException) -> None:
    """Rolls back where the session answers. Otherwise it is closed, and PostgreSQL rolls back."""
    if isinstance(error, DriverError):
        fine = error.session_lives
    else:  # a commit that was not confirmed ended the session as well; an act's own error did not
        fine = isinstance(error, Exception) and not isinstance(error, JournalUnavailable)
    if fine:
        try:
            await ask(connection.execute, "ROLLBACK")
            return
        except DriverError:
            pass
    _terminate(connection)


def _terminate(connection: Any) -> None:
    with contextlib.suppress(asyncpg.InterfaceError):  # the pool may have noticed already that it is closed
        connection.terminate()


async def _check(connection: Any) -> None:
    value, known = connection.fetchval, len(load_migrations())
    role, schema = await ask(value, "SELECT current_user"), await ask(value, "SELECT current_schema()")
    if await ask(value, "SELECT to_regclass('schema_version')") is None:
        if not await ask(value, "SELECT has_schema_privilege(current_schema(), 'CREATE')"):
            raise ConfigError([f"state: {role} may not make tables: GRANT CREATE ON SCHEMA {schema} TO {role}"])
        return
    done = await ask(value, "SELECT coalesce(max(version), 0) FROM schema_version")
    _refuse_newer(done, known)
    owns = "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass('schema_version')"
    if done < known and not await ask(value, owns):
        raise ConfigError([f"state: {role} may not bring the tables up to date: they belong to another role"])


def _refuse_newer(done: int, known: int) -> None:
    if done > known:
        raise ConfigError([f"state: the journal was written by a newer version ({done}, known {known})"])


async def _migrate(connection: Any) -> None:
    """Forward only, one replica at a time, each section in one transaction with its number."""
    migrations = load_migrations()
    run = connection.execute
    await ask(run, "BEGIN")
    await ask(run, f"SET LOCAL statement_timeout = {int(_MIGRATES_WITHIN * 1000)}")
    await ask(run, "SELECT pg_advisory_xact_lock($1)", _MIGRATING)
    await ask(run, "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)")
    done = await ask(connection.fetchval, "SELECT coalesce(max(version), 0) FROM schema_version")
    _refuse_newer(done, len(migrations))
    for number, sql in enumerate(migrations[done:], done + 1):
        await ask(run, sql, timeout=_MIGRATES_WITHIN)
        await ask(run, "INSERT INTO schema_version VALUES ($1)", number)
    if await ask(connection.fetchval, "SELECT 1 FROM pg_roles WHERE rolname = 'grafana_reader'"):
        await ask(run, f"GRANT SELECT ON {', '.join(_VIEWS)} TO grafana_reader")
    await ask(run, "COMMIT")

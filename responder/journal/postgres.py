"""The journal in a PostgreSQL that users already run, shared by several replicas."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import asyncpg

from responder.errors import ConfigError, JournalUnavailable
from responder.journal.database import Bell, Ear, Row, Transaction, load_migrations, load_statements

T = TypeVar("T")
P = ParamSpec("P")

_DIALECT = {"now": "clock_timestamp()", "later": "clock_timestamp() + make_interval(secs => :lease)"}
_CHANNEL = "rollback_responder"
_MIGRATING = 0x726F6C6C  # any number that nobody else locks by chance: 'roll'
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
        rows: list[Row] = await self._connection.fetch(sql, *(params[name] for name in names))
        return [{name: _read(value) for name, value in row.items()} for row in rows]

    async def one(self, query: str, **params: Any) -> Row | None:
        rows = await self.all(query, **params)
        return rows[0] if rows else None

    async def lock(self, key: str) -> None:
        await self._connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", key)

    def notify(self) -> None:
        self.notified = True


def _read(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) else value


class Postgres:
    """A pool for the work, and one connection that listens."""

    exclusive = False

    def __init__(self, dsn: str, pool: Any) -> None:
        self._dsn = dsn
        self._pool = pool
        self._statements = {name: _numbered(sql) for name, sql in load_statements(_DIALECT).items()}
        self._bell = Bell()
        self._ear = self._bell.listen()
        self._listening = asyncio.create_task(self._listen(), name="journal-listens")

    @classmethod
    async def open(cls, dsn: str, *, timeout: float = 10.0) -> Self:
        """Connects and brings the schema up to date. Raises ConfigError where that cannot be."""
        try:
            async with asyncio.timeout(timeout):
                pool = await asyncpg.create_pool(
                    dsn,
                    min_size=1,
                    max_size=10,
                    command_timeout=10,
                    timeout=5,
                    server_settings={"application_name": "rollback-responder", "synchronous_commit": "on"},
                )
            try:
                async with pool.acquire() as connection:
                    await _migrate(connection)
            except BaseException:
                pool.terminate()
                raise
        except (OSError, TimeoutError, asyncpg.PostgresError, ValueError) as e:
            raise ConfigError([f"state: PostgreSQL cannot be used: {type(e).__name__}: {e}"]) from e
        return cls(dsn, pool)

    async def transaction(
        self, act: Callable[Concatenate[Transaction, P], Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        async with self._translated(), self._pool.acquire() as connection, connection.transaction():
            transaction = _Transaction(connection, self._statements)
            result = await act(transaction, *args, **kwargs)
            if transaction.notified:  # delivered at the commit, and only then
                await connection.execute(f"NOTIFY {_CHANNEL}")
            return result

    async def read(
        self, act: Callable[Concatenate[Transaction, P], Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        async with (
            self._translated(),
            self._pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            return await act(_Transaction(connection, self._statements), *args, **kwargs)

    @contextlib.asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        try:
            yield
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as e:
            raise JournalUnavailable(f"the journal cannot be used: {type(e).__name__}: {e}") from e

    async def changed(self, within: float) -> bool:
        return await self._ear.changed(within)

    def listen(self) -> Ear:
        return self._bell.listen()

    async def _listen(self) -> None:
        """Listens for as long as we live. While it cannot, whoever waits falls back on looking from time to time."""
        while True:
            with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                connection = await asyncpg.connect(self._dsn, timeout=5)
                lost = asyncio.Event()
                connection.add_termination_listener(lambda *_, gone=lost: gone.set())
                try:
                    await connection.add_listener(_CHANNEL, lambda *_: self._bell.ring())
                    self._bell.ring()  # something may have happened while nobody listened
                    await lost.wait()
                finally:
                    connection.terminate()
            await asyncio.sleep(0.5)

    async def close(self) -> None:
        self._listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._listening
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                await self._pool.close()
        self._pool.terminate()


async def _migrate(connection: Any) -> None:
    """Forward only, one replica at a time, each section in one transaction with its number."""
    migrations = load_migrations()
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _MIGRATING)
        await connection.execute("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)")
        done = await connection.fetchval("SELECT coalesce(max(version), 0) FROM schema_version")
        if done > len(migrations):
            raise ConfigError([f"state: the journal was written by a newer version ({done}, known {len(migrations)})"])
        for number, sql in enumerate(migrations[done:], done + 1):
            await connection.execute(sql)
            await connection.execute("INSERT INTO schema_version VALUES ($1)", number)
        if await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = 'grafana_reader'"):
            await connection.execute(f"GRANT SELECT ON {', '.join(_VIEWS)} TO grafana_reader")

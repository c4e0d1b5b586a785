"""One transaction of the journal in PostgreSQL, from its named statements to its commit."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import asyncpg

from responder.errors import JournalUnavailable
from responder.journal.database import Row, storable
from responder.journal.postgres.sessions import DriverError, ask


def numbered(sql: str) -> tuple[str, list[str]]:
    """The SQL with `$1` for each `:name`, and the names in order. It keeps `:most`: see `with_limit`."""
    names: list[str] = []

    def number(found: re.Match[str]) -> str:
        if found[1] == "most":
            return found[0]
        if found[1] not in names:
            names.append(found[1])
        return f"${names.index(found[1]) + 1}"

    return re.sub(r"(?<![:\w]):([a-z_]+)", number, sql), names


def with_limit(sql: str, params: Mapping[str, Any]) -> str:
    """The SQL with the number of rows as a constant.

    If it were a parameter, PostgreSQL would expect a tenth of all rows, reject that plan, and plan each call again.
    """
    return sql.replace(":most", str(int(params["most"]))) if "most" in params else sql


class PostgresTransaction:
    def __init__(self, connection: Any, statements: dict[str, tuple[str, list[str]]]) -> None:
        self._connection = connection
        self._statements = statements
        self.notified = False

    async def all(self, query: str, **params: Any) -> list[Row]:
        sql, names = self._statements[query]
        arguments = (_bound(params[name]) for name in names)
        rows: list[Row] = await ask(self._connection.fetch, with_limit(sql, params), *arguments)
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


async def commit(connection: Any) -> None:
    """Raises JournalUnavailable if the outcome is unknown: then the transaction must not run again."""
    try:
        done = await ask(connection.execute, "COMMIT")
    except DriverError as e:
        if e.session_lives:
            raise
        raise JournalUnavailable(f"the journal did not confirm a commit: {e}") from e.cause
    if done != "COMMIT":
        raise JournalUnavailable(f"the journal cannot be used: PostgreSQL answered {done} to a commit")


async def undo(connection: Any, error: BaseException) -> None:
    """Rolls back if the session still answers. Otherwise closes it, and PostgreSQL rolls back."""
    if isinstance(error, DriverError):
        fine = error.session_lives
    else:  # an unconfirmed commit ended the session; an error of `act` did not
        fine = isinstance(error, Exception) and not isinstance(error, JournalUnavailable)
    if fine:
        try:
            await ask(connection.execute, "ROLLBACK")
            return
        except DriverError:
            pass
    terminate(connection)


def terminate(connection: Any) -> None:
    with contextlib.suppress(asyncpg.InterfaceError):  # the pool may already have closed it
        connection.terminate()

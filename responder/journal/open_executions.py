"""Reads the open executions while the responder has the journal open."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path

from responder.errors import JournalUnavailable
from responder.journal.database import load_statements


async def open_executions(state: str) -> frozenset[str]:
    """The IDs of all executions that are not closed. Raises JournalUnavailable."""
    sql = load_statements({})["open_execution_ids"]
    if state.startswith("sqlite:///"):
        return await asyncio.to_thread(_of_file, Path(state.removeprefix("sqlite://")), sql)
    return await _of_server(state, sql)


def _of_file(file: Path, sql: str) -> frozenset[str]:
    try:
        with contextlib.closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=5.0)) as opened:
            return frozenset(str(row[0]) for row in opened.execute(sql))
    except sqlite3.Error as e:
        raise JournalUnavailable(f"the journal {file} cannot be read: {e}") from e


async def _of_server(dsn: str, sql: str) -> frozenset[str]:
    try:
        import asyncpg
    except ImportError as e:
        raise JournalUnavailable("the journal on PostgreSQL needs the extra: pip install '.[postgres]'") from e
    try:
        async with asyncio.timeout(10):
            connection = await asyncpg.connect(dsn, timeout=5)
            try:
                return frozenset(row["id"] for row in await connection.fetch(sql))
            finally:
                await connection.close(timeout=5)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as e:
        raise JournalUnavailable(f"the journal on PostgreSQL cannot be read: {type(e).__name__}: {e}") from e

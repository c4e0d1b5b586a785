"""Runs a script part by part, and records the progress in the transaction of each part."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from pydantic import Field

from foundation.models import FrozenModel
from responder.errors import StepFailed
from responder.transport.acting import acting

RETRIED = {"55P03": "a lock timed out", "40P01": "a deadlock", "40001": "a serialization failure"}
"""SQLSTATEs after which the whole transaction is retried: the statements themselves may be correct."""

_LOCK = "hashtextextended('rollback:' || current_database(), 0)"


class ScriptLimits(FrozenModel):
    """Timeouts of a session in seconds, and how often a transaction is tried."""

    lock_timeout: float
    statement_timeout: float
    attempts: int = Field(ge=1)

    @property
    def settings(self) -> dict[str, str]:
        """The settings of the server, in milliseconds."""
        return {
            "lock_timeout": str(round(self.lock_timeout * 1000)),
            "statement_timeout": str(round(self.statement_timeout * 1000)),
            "idle_in_transaction_session_timeout": "60000",
            "row_security": "off",  # rows that a policy hides would be lost: raise an error instead
        }


class ScriptPart(FrozenModel):
    """The statements of one transaction, or one statement that cannot run in a transaction."""

    statements: tuple[str, ...]
    standalone: bool = False
    builds_index: str = ""  # the index that it creates concurrently; a failed attempt leaves it invalid


async def acquire_migration_lock(session: Any, database: str) -> None:
    """Takes the advisory lock of the database for this session. Raises StepFailed if another session holds it."""
    if await session.fetchval(f"SELECT pg_try_advisory_lock({_LOCK})"):
        return
    row = await session.fetchrow(
        "SELECT a.pid, a.application_name FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
        f" WHERE l.locktype = 'advisory' AND l.granted AND (l.classid::bigint << 32 | l.objid::bigint) = {_LOCK}"
    )
    holder = f": process {row['pid']}, application {row['application_name'] or 'unnamed'}" if row else ""
    raise StepFailed(f"another migration of database {database} holds the advisory lock{holder}")


_PROGRESS = """
CREATE TABLE IF NOT EXISTS rollback_keep.progress (
  execution text, script text, done int NOT NULL, parts int NOT NULL, at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (execution, script)
)"""


async def start_script(session: Any, execution: str, script: str, parts: int) -> int:
    """Records the script and returns how many of its parts have run.

    A completed script starts again at 0: it runs a second time after it was reverted.
    """
    acting.get()()
    if await session.fetchval("SELECT to_regclass('rollback_keep.progress') IS NULL"):
        if await session.fetchval("SELECT to_regnamespace('rollback_keep') IS NULL"):
            await session.execute("CREATE SCHEMA IF NOT EXISTS rollback_keep")
        await session.execute(_PROGRESS)
    row = await session.fetchrow(
        "INSERT INTO rollback_keep.progress AS p VALUES ($1, $2, 0, $3) ON CONFLICT (execution, script) DO UPDATE"
        " SET done = CASE WHEN p.done < p.parts THEN p.done ELSE 0 END, parts = excluded.parts RETURNING done",
        execution,
        script,
        parts,
    )
    return int(row["done"])


def progress_update(execution: str, script: str, done: int) -> tuple[Any, ...]:
    """The statement and its arguments that record how many parts have run."""
    sql = "UPDATE rollback_keep.progress SET done = $3, at = now() WHERE execution = $1 AND script = $2"
    return sql, execution, script, done


async def run_part(session: Any, part: ScriptPart, progress: tuple[Any, ...], limits: ScriptLimits) -> None:
    """Runs one part and records the progress. Retries it after the errors in `RETRIED`."""
    import asyncpg

    for attempt in range(limits.attempts):
        try:
            acting.get()()
            return await (_run_standalone if part.standalone else _run_transaction)(session, part, progress)
        except asyncpg.PostgresError as e:
            if e.sqlstate not in RETRIED or attempt + 1 == limits.attempts:
                raise
        await back_off(attempt)
    return None


async def back_off(attempt: int) -> None:
    """Sleeps before the next attempt: 0.2 s doubled with each attempt, at most 5 s, with jitter of 50 %."""
    await asyncio.sleep(min(0.2 * 2**attempt, 5.0) * random.uniform(0.5, 1.5))  # noqa: S311 - no secret


async def _run_transaction(session: Any, part: ScriptPart, progress: tuple[Any, ...]) -> None:
    async with session.transaction():
        for sql in part.statements:
            await session.execute(sql)
        if progress:
            await session.execute(*progress)
        acting.get()()  # the last moment before the commit


async def _run_standalone(session: Any, part: ScriptPart, progress: tuple[Any, ...]) -> None:
    if part.builds_index:
        await drop_invalid_index(session, part.builds_index)
    for sql in part.statements:
        await session.execute(sql)
    if progress:
        await session.execute(*progress)


async def drop_invalid_index(session: Any, index: str) -> None:
    """Drops the index if a failed CREATE INDEX CONCURRENTLY left it invalid. A valid index stays."""
    sql = "SELECT indexrelid::regclass::text FROM pg_index WHERE indexrelid = to_regclass($1) AND NOT indisvalid"
    for row in await session.fetch(sql, index):
        await session.execute(f"DROP INDEX CONCURRENTLY {row[0]}")

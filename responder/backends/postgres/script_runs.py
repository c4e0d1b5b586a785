"""A script runs part by part, and how far it has come is on record in the transaction of each part."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from responder.errors import StepFailed
from responder.transport.acting import acting

RETRIED = {"55P03": "a lock was not to be had", "40P01": "a deadlock", "40001": "a serialisation failure"}
"""What is worth another try of the whole transaction: it says nothing about the statements themselves."""

_LOCK = "hashtextextended('rollback:' || current_database(), 0)"


class Limits(BaseModel):
    """How long a session may wait and work."""

    model_config = ConfigDict(frozen=True)

    lock_timeout: float
    statement_timeout: float
    attempts: int = Field(ge=1)

    @property
    def settings(self) -> dict[str, str]:
        """As the server's settings, in milliseconds."""
        return {
            "lock_timeout": str(round(self.lock_timeout * 1000)),
            "statement_timeout": str(round(self.statement_timeout * 1000)),
            "idle_in_transaction_session_timeout": "60000",
            "row_security": "off",  # a policy that hid rows from us would make us lose them: it is an error instead
        }


class Part(BaseModel):
    """Statements that are one transaction, or a single one that cannot be in any."""

    model_config = ConfigDict(frozen=True)

    statements: tuple[str, ...]
    alone: bool = False
    builds_index: str = ""  # the index that it creates concurrently, of which a failed try leaves an invalid one


async def take_lock(session: Any, database: str) -> None:
    if await session.fetchval(f"SELECT pg_try_advisory_lock({_LOCK})"):
        return
    who = await session.fetchrow(
        "SELECT a.pid, a.application_name FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
        f" WHERE l.locktype = 'advisory' AND l.granted AND (l.classid::bigint << 32 | l.objid::bigint) = {_LOCK}"
    )
    holder = f": process {who['pid']}, {who['application_name'] or 'without a name'}" if who else ""
    raise StepFailed(f"another migration of {database} holds its advisory lock{holder}")


_PROGRESS = """
CREATE TABLE IF NOT EXISTS rollback_keep.progress (
  execution text, script text, done int NOT NULL, parts int NOT NULL, at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (execution, script)
)"""


async def begin(session: Any, mark: str, script: str, parts: int) -> int:
    """How many parts are done. A script that is through begins anew: it is run once more after it was turned back."""
    acting.get()()
    if await session.fetchval("SELECT to_regclass('rollback_keep.progress') IS NULL"):
        if await session.fetchval("SELECT to_regnamespace('rollback_keep') IS NULL"):
            await session.execute("CREATE SCHEMA IF NOT EXISTS rollback_keep")
        await session.execute(_PROGRESS)
    row = await session.fetchrow(
        "INSERT INTO rollback_keep.progress AS p VALUES ($1, $2, 0, $3) ON CONFLICT (execution, script) DO UPDATE"
        " SET done = CASE WHEN p.done < p.parts THEN p.done ELSE 0 END, parts = excluded.parts RETURNING done",
        mark,
        script,
        parts,
    )
    return int(row["done"])


def note(mark: str, script: str, done: int) -> tuple[Any, ...]:
    sql = "UPDATE rollback_keep.progress SET done = $3, at = now() WHERE execution = $1 AND script = $2"
    return sql, mark, script, done


async def persist(session: Any, part: Part, done: tuple[Any, ...], limits: Limits) -> None:
    import asyncpg

    for attempt in range(limits.attempts):
        try:
            acting.get()()
            return await (_alone if part.alone else _together)(session, part, done)
        except asyncpg.PostgresError as e:
            if e.sqlstate not in RETRIED or attempt + 1 == limits.attempts:
                raise
        await rest(attempt)
    return None


async def rest(attempt: int) -> None:
    await asyncio.sleep(min(0.2 * 2**attempt, 5.0) * random.uniform(0.5, 1.5))  # noqa: S311 - no secret


async def _together(session: Any, part: Part, done: tuple[Any, ...]) -> None:
    async with session.transaction():
        for sql in part.statements:
            await session.execute(sql)
        if done:
            await session.execute(*done)
        acting.get()()  # the last moment at which it can still be as if nothing had happened


async def _alone(session: Any, part: Part, done: tuple[Any, ...]) -> None:
    if part.builds_index:
        await drop_invalid(session, part.builds_index)
    for sql in part.statements:
        await session.execute(sql)
    if done:
        await session.execute(*done)


async def drop_invalid(session: Any, index: str) -> None:
    """Removes what a failed CREATE INDEX CONCURRENTLY left behind; a valid index of that name stays."""
    sql = "SELECT indexrelid::regclass::text FROM pg_index WHERE indexrelid = to_regclass($1) AND NOT indisvalid"
    for row in await session.fetch(sql, index):
        await session.execute(f"DROP INDEX CONCURRENTLY {row[0]}")

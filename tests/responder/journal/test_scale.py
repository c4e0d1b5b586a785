"""Every statement of the journal reads as much with a long history as with a short one."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from responder.journal import open_journal
from responder.journal.database import load_statements
from responder.journal.postgres.transaction import numbered, with_limit
from responder.journal.sqlite.schema import DIALECT
from tests.histories import fill
from tests.registries import seed

NEWEST = datetime(2026, 11, 23, 22, 0, tzinfo=UTC)
SERVICES = 5
SHORT, LONG = 500, 5000
"""Rollbacks. Deployments grow with them."""

GROWS = 1.2
SLACK = 60
"""More rows, or tens of instructions, that any query may read: half a page of its answer."""


def ago(**time: float) -> str:
    return (NEWEST - timedelta(**time)).isoformat(timespec="microseconds")


# The parameters of the statements, by name; those of one statement, where they mean something else.
GIVEN: dict[str, Any] = {
    "service": "s3", "environment": "production", "platform": "android", "policy": "policy-3", "version": "3.0",
    "from_version": "3.0", "running": "9.0", "target": "3.0", "needs": "s1", "incident": "i77", "fingerprint": "f3",
    "guard": "mode", "result": "deny", "state": "stuck", "channel": "slack", "occasion": "0", "seq": 3, "stage": "",
    "subject": "@newest", "execution": "@newest", "worker": "worker-1", "by": "worker-1", "before_id": "", "name": "n",
    "since": ago(hours=1), "until": ago(), "at": ago(), "now": ago(), "due_at": ago(), "before": ago(days=30),
    "most": 20, "services": None, "environments": None, "id": "@newest", "lease": 15.0, "expected": None,
    "revision": 1, "status": "good", "reason": "", "no_rollback": "", "artifact": "", "provenance": "", "error": "",
    "reference": "", "outcome": None, "changed": True, "plan_hash": None, "acted_at": None, "ended_at": None,
    "duration": None, "again": 0,
    "rolled_back_by": None,
    "location": "file",
    "last_at": ago(),
}  # fmt: skip
ALSO: dict[str, dict[str, Any]] = {
    "deployment": {"id": "s3-3"},
    "platform_deployment": {"id": "s3-3"},
    "executions": {"before": ago(), "state": "closed"},
    "executions_by_id": {"id": "2", "id_end": "3"},
    "executions_in_state": {"before": ago()},
    "executions_of": {"before": ago(), "state": None, "services": "|s3|"},
    "executions_in": {"before": ago(), "state": None, "environments": "|production|"},
    "executions_to_archive": {"before": ago(hours=2)},
    "decisions_to_archive": {"before": ago(hours=2)},
    "update_execution": {"worker": None, "state": "closed"},
    "replaced_version": {"version": "9.0"},
    "set_running_status": {"version": "9.0"},
    "version_runs_since": {"version": "9.0"},
}

# Those that read what they do not return, on purpose.
READS_ALL = {
    "channels_due": "messages that are not delivered yet",
}

FIRST_PAGE = {"most": 4, "services": None, "environments": None}
PLANNED_AGAIN = {
    "executions_by_id": "a person typed it; the plan for the beginning of nearly all IDs differs",
    "executions_in_state": "the plan for a state that nearly all rollbacks have differs",
}

Measure = Callable[[str], Awaitable[int]]


def statements(dialect: dict[str, str]) -> dict[str, str]:
    """Every named statement that looks for rows."""
    return {name: sql for name, sql in load_statements(dialect).items() if not re.match(r"INSERT .*VALUES", sql, re.S)}


def given(query: str, newest: str) -> dict[str, Any]:
    return {name: newest if value == "@newest" else value for name, value in {**GIVEN, **ALSO.get(query, {})}.items()}


@asynccontextmanager
async def sqlite_journal(file: Path, rollbacks: int) -> AsyncIterator[Measure]:
    """Measures tens of instructions of SQLite's virtual machine: each row read takes several."""
    await grown(f"sqlite://{file}", rollbacks)
    database = sqlite3.connect(file, isolation_level=None)
    newest = database.execute("SELECT max(id) FROM executions").fetchone()[0]
    every = statements(DIALECT)

    async def measure(query: str) -> int:
        steps = 0

        def step() -> int:
            nonlocal steps
            steps += 1
            return 0

        database.execute("BEGIN")
        database.set_progress_handler(step, 10)
        database.execute(every[query], given(query, newest)).fetchall()
        database.set_progress_handler(None, 0)
        database.execute("ROLLBACK")
        return steps

    try:
        yield measure
    finally:
        database.close()


@asynccontextmanager
async def postgres_journal(dsn: str, rollbacks: int) -> AsyncIterator[Measure]:
    """Measures the rows that the generic plan reads, without those of `VALUES`."""
    import asyncpg

    await grown(dsn, rollbacks)
    connection = await asyncpg.connect(dsn)
    newest = await connection.fetchval("SELECT max(id) FROM executions")
    every = statements({"now": "now()", "later": "now() + make_interval(secs => :lease)"})
    # The rows of a test are so few that PostgreSQL would rather read them all.
    await connection.execute("SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off")

    async def measure(query: str) -> int:
        values = given(query, newest)
        sql, names = numbered(with_limit(every[query], values))
        await connection.execute(f"PREPARE asked AS {sql}; BEGIN")
        try:
            explain = f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE asked{_arguments(names, values)}"
            plan = json.loads(await connection.fetchval(explain))
        finally:
            await connection.execute("ROLLBACK; DEALLOCATE asked")
        return _rows_read(plan[0]["Plan"])

    try:
        yield measure
    finally:
        await connection.close()


def _arguments(names: list[str], values: dict[str, Any]) -> str:
    return f"({', '.join(_literal(values[name]) for name in names)})" if names else ""


def _literal(value: Any) -> str:
    return "NULL" if value is None else str(value) if isinstance(value, int | float) else f"'{value}'"


def _rows_read(node: dict[str, Any]) -> int:
    mine = 0
    if "Scan" in node["Node Type"]:
        removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
        mine = round((node["Actual Rows"] + removed) * node["Actual Loops"])
    return mine + sum(map(_rows_read, node.get("Plans", ())))


async def grown(state: str, rollbacks: int) -> None:
    await fill(state, executions=rollbacks, services=SERVICES, newest=NEWEST)
    await (await open_journal(state)).close()
    await seed(state, services=SERVICES, each=rollbacks // SERVICES)


async def growing(short: Measure, long: Measure) -> dict[str, tuple[int, int]]:
    found = {}
    for query in statements(DIALECT):
        few, many = await short(query), await long(query)
        if many > few * GROWS + SLACK and query not in READS_ALL:
            found[query] = (few, many)
    return found


async def test_statements_read_no_more_with_a_long_history_in_sqlite(tmp_path: Path) -> None:
    short, long = sqlite_journal(tmp_path / "short.db", SHORT), sqlite_journal(tmp_path / "long.db", LONG)
    async with short as few, long as many:
        assert await growing(few, many) == {}


async def test_statements_read_no_more_with_a_long_history_in_postgresql(postgres_server: Any) -> None:
    short = postgres_journal(await postgres_server.database("short_history"), SHORT)
    long = postgres_journal(await postgres_server.database("long_history"), LONG)
    async with short as few, long as many:
        assert await growing(few, many) == {}


async def test_postgresql_plans_a_page_once(postgres_server: Any) -> None:
    """With the number of rows as a parameter it would plan each call again, which takes longer than the page."""
    import asyncpg

    await grown(dsn := await postgres_server.database("pages"), LONG)
    connection = await asyncpg.connect(dsn)
    again = set()
    try:
        for query, sql in statements({"now": "now()", "later": "now() + make_interval(secs => :lease)"}).items():
            if ":most" in sql and query not in PLANNED_AGAIN:
                values = {**given(query, "none"), **FIRST_PAGE}
                numbered_sql, names = numbered(with_limit(sql, values))
                await connection.execute(f"PREPARE page AS {numbered_sql}")
                for _ in range(6):
                    await connection.execute(f"EXECUTE page{_arguments(names, values)}")
                kept = "SELECT generic_plans FROM pg_prepared_statements WHERE name = 'page'"
                if not await connection.fetchval(kept):
                    again.add(query)
                await connection.execute("DEALLOCATE page")
    finally:
        await connection.close()
    assert again == set()


async def test_the_measure_finds_scans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One row of each service is enough to notice that all of its history is read."""
    scans = {
        "scan": "SELECT count(*) FROM executions WHERE reason = 'x'",
        "service": "SELECT count(*) FROM parts WHERE service = :service AND to_version = 'x'",
    }
    monkeypatch.setattr("tests.responder.journal.test_scale.statements", lambda dialect: scans)
    short, long = sqlite_journal(tmp_path / "short.db", SHORT), sqlite_journal(tmp_path / "long.db", LONG)
    async with short as few, long as many:
        assert set(await growing(few, many)) == set(scans)

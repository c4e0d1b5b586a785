"""Reads of the registry cost the same with a thousand deployments and with a million."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from responder.journal import Database
from responder.journal.database import load_statements
from responder.journal.postgres.transaction import numbered
from responder.journal.sqlite.schema import DIALECT
from tests.registries import seed

ONE = {"service": "s7", "environment": "production", "platform": "android"}
BIG = r"(recorded_deployments|versions|artifacts|marks|client_rule_changes|requirements)"

# Every query on tables that grow with each deployment.
ASKED: dict[str, dict[str, Any]] = {
    "deployment": {"id": "s7-3"},
    "platform_deployment": {"id": "s7-3"},
    "deployments": {"most": 100},
    "deployments_in": {"most": 100},
    "deployments_of": {"most": 100},
    "running_deployment": {},
    "version_runs_since": {"version": "9.0"},
    "replaced_version": {"version": "9.0", "at": "2026-11-23T22:00:00+00:00"},
    "running": {},
    "running_candidates": {},
    "running_on_platforms": {},
    "artifacts_of_version": {"version": "3.0"},
    "reached_platform": {"version": "3.0"},
    "versions_of_platform": {"most": 100},
    "good_on_platform": {"running": "9.0", "most": 50},
    "marks": {"most": 100},
    "requirements_of": {"version": "3.0"},
    "requirements_on": {"needs": "s1"},
    "has_dependents": {"needs": "s1"},
    "protected_since": {"target": "3.0"},
    "version": {"version": "3.0"},
    "versions_of_service": {"most": 100},
    "good_target": {"running": "9.0"},
    "targets": {},
    "count_by_status": {},
    "client_rules": {},
    "client_rule_changes": {"most": 100},
}

STOPS_SOON = ("deployments", "deployments_in", "has_dependents")
"""Whether it runs after a hundred executions or after the first."""


def plan_of(state: str, query: str, params: dict[str, Any]) -> str:
    sql = load_statements(DIALECT)[query]
    database = sqlite3.connect(state.removeprefix("sqlite://"))
    try:
        return "\n".join(row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {sql}", params))
    finally:
        database.close()


async def postgres_plan_of(connection: Any, query: str, params: dict[str, Any]) -> str:
    """The generic plan for all parameters: a plan for specific ones is no worse."""
    sql, names = numbered(load_statements({"now": "now()", "later": "now()"})[query])
    await connection.execute(f"SET plan_cache_mode = force_generic_plan; PREPARE asked AS {sql}")
    given = ", ".join(_literal(params[name]) for name in names)
    rows = await connection.fetch(f"EXPLAIN EXECUTE asked{f'({given})' if given else ''}")
    await connection.execute("DEALLOCATE asked")
    return "\n".join(row[0] for row in rows) + "\n"


def _literal(value: Any) -> str:
    return "NULL" if value is None else str(value) if isinstance(value, int) else "'" + str(value) + "'"


def every_question() -> Iterator[tuple[str, dict[str, Any]]]:
    for query, more in ASKED.items():
        yield query, {**ONE, **more}
        if query in ("marks", "versions_of_service"):
            yield query, {**ONE, **more, "environment": None}


def reads_all(plan: str) -> bool:
    """Whether a growing table is scanned without a condition that an index covers."""
    sqlite = re.search(r"^SCAN (?!running\b|r\b|version_counts\b)\w+", plan, flags=re.MULTILINE)
    postgres = re.search(rf"Seq Scan on {BIG}", plan)
    unbound = re.search(rf"Index (?:Only )?Scan.* on {BIG}.*\n(?!\s+Index Cond)", plan)
    # An environment is as large as the table: only a service or an ID narrows the search.
    narrow = r"(?!.*\b(?:service|id)\b)"
    wide = re.search(rf"^SEARCH {narrow}|Scan.* on {BIG}.*\n\s+Index Cond: {narrow}", plan, flags=re.MULTILINE)
    return bool(sqlite or postgres or unbound or wide)


@pytest.mark.parametrize(
    ("plan", "bad"),
    [
        ("SCAN d USING INDEX deployed_recent", True),
        ("SEARCH d USING INDEX deployed_in (environment=?)\nCORRELATED SCALAR SUBQUERY 1\nSCAN other", True),
        ("SEARCH deployed USING INDEX deployed_in (environment=?)", True),
        (
            "Limit\n  ->  Index Scan using b on recorded_deployments  (cost)\n        Index Cond: (environment = $1)",
            True,
        ),
        ("SEARCH versions USING INDEX versions_good (service=? AND environment=?)", False),
        ("Sort\n  ->  Seq Scan on recorded_deployments d\n        Filter: (x)", True),
        (
            "Limit\n  ->  Index Scan Backward using d_recent on recorded_deployments\n  Filter: (service = $1)",
            True,
        ),
        ("Limit\n  ->  Index Scan using a on artifacts a  (cost)\n        Index Cond: (service = $1)", False),
    ],
)
def test_what_counts_as_a_full_scan(plan: str, bad: bool) -> None:
    assert reads_all(plan) is bad


@pytest.mark.parametrize("services", [400, pytest.param(10_000, marks=pytest.mark.soak)])
async def test_no_query_scans_a_whole_table(state: str, journal: Database, services: int) -> None:
    import asyncpg

    await seed(state, services=services, each=100 if services > 400 else 50)
    connection = None if state.startswith("sqlite") else await asyncpg.connect(state)
    whole = []
    try:
        for query, params in every_question():
            plan = await postgres_plan_of(connection, query, params) if connection else plan_of(state, query, params)
            if reads_all(plan) and query not in STOPS_SOON:
                whole.append(f"{query}\n{plan}")
    finally:
        if connection:
            await connection.close()
    assert not whole, "\n\n".join(whole)


def test_every_query_about_a_growing_table_is_tested() -> None:
    grows = re.compile(rf"\b(?:FROM|JOIN) {BIG}\b")
    there = {name for name, sql in load_statements(DIALECT).items() if grows.search(sql) and sql.startswith("SELECT")}
    assert there - set(ASKED) == set()

"""Everything in a PostgreSQL database: schema, owners, rights, comments, rows, sequences, settings and sessions."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import psycopg

_ENTRY = re.compile(r"^-- Name: (.*); Type: (.*); Schema: (.*); Owner: (.*)$", re.MULTILINE)
_CATALOG = {
    "extensions": "SELECT extname, extversion FROM pg_extension ORDER BY 1",
    "settings": "SELECT setrole::regrole::text, setconfig FROM pg_db_role_setting s JOIN pg_database d"
    " ON d.oid = s.setdatabase WHERE datname = current_database() ORDER BY 1",
    "database": "SELECT datdba::regrole::text, datacl::text, datconnlimit, datallowconn FROM pg_database"
    " WHERE datname = current_database()",
    "sequences": "SELECT schemaname, sequencename, last_value FROM pg_sequences ORDER BY 1, 2",
    "columns": "SELECT attrelid::regclass::text, attname,"
    " row_number() OVER (PARTITION BY attrelid ORDER BY attnum) FROM pg_attribute JOIN pg_class c ON c.oid = attrelid"
    " WHERE relkind IN ('r', 'p', 'v', 'm') AND attnum > 0 AND NOT attisdropped"
    " AND relnamespace::regnamespace::text !~ '^(pg_|information_schema)' ORDER BY 1, 2",
    "transactions": "SELECT gid FROM pg_prepared_xacts WHERE database = current_database() ORDER BY 1",
    "sessions": "SELECT application_name, state FROM pg_stat_activity WHERE datname = current_database()"
    " AND application_name LIKE 'rollback%' ORDER BY 1, 2",
    "locks": "SELECT locktype, mode, classid::text, objid::text FROM pg_locks JOIN pg_database d ON d.oid = database"
    " WHERE datname = current_database() AND locktype = 'advisory' ORDER BY 1, 2, 3, 4",
}
_TABLES = (
    "SELECT quote_ident(nspname) || '.' || quote_ident(relname) FROM pg_class JOIN pg_namespace n"
    " ON n.oid = relnamespace WHERE relkind IN ('r', 'm') AND nspname !~ '^pg_' AND nspname <> 'information_schema'"
)


def contents(dsn: str) -> dict[str, Any]:
    """The schema by the type, schema and name of each object, the rows by table, and the rest by kind."""
    with psycopg.connect(dsn, autocommit=True, application_name="contents") as connection:

        def ask(sql: str) -> list[Any]:
            return connection.execute(sql).fetchall()  # type: ignore[arg-type]

        rows = {name: [row[0] for row in ask(f"SELECT t::text FROM {name} t ORDER BY 1")] for (name,) in ask(_TABLES)}
        found: dict[str, Any] = {kind: [list(row) for row in ask(sql)] for kind, sql in _CATALOG.items()}
        for kind, length in (("columns", 2), ("sequences", 2), ("extensions", 1)):
            found[kind] = {".".join(row[:length]): row[length] for row in found[kind]}
    return {**found, "rows": rows, "schema": _schema(dsn)}


def _schema(dsn: str) -> dict[str, str]:
    dumped = subprocess.run(["pg_dump", "--schema-only", dsn], capture_output=True, text=True, check=True).stdout
    dumped = re.sub(r"^\\(un)?restrict .*$", "", dumped, flags=re.MULTILINE)
    _, *parts = _ENTRY.split(dumped)
    found = {}
    for name, kind, schema, owner, text in zip(*(parts[n::5] for n in range(5)), strict=True):
        lines = [line for line in text.splitlines() if line and not line.startswith(("--", "SET default_"))]
        found[f"{kind} {schema}.{name}"] = "\n".join([*lines, f"owner: {owner}"])
    return found

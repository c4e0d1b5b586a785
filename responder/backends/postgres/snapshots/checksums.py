"""The tables of a database with their sizes, and checksums of rows that do not depend on their order."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any, NamedTuple

from responder.backends.postgres.client import Postgres, error_text
from responder.backends.postgres.snapshots.manifest import TableChecksum
from responder.backends.postgres.sql import quoted
from responder.errors import ResponderError, StepFailed, Unavailable

LARGE_OBJECTS = "(large objects)"

PINNED = {
    "search_path": "",  # types that print names always print the schema
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "xmlbinary": "base64",
    "lc_monetary": "C",
    "row_security": "off",  # raise an error instead of hiding rows
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}
"""Settings that give equal rows the same text."""

_TABLES = """
SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS name, pg_table_size(c.oid) AS size,
       has_table_privilege(c.oid, 'SELECT') AS readable,
       (c.relrowsecurity AND NOT (SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user)
        AND (c.relforcerowsecurity OR NOT pg_has_role(c.relowner, 'USAGE'))) AS hidden
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_'
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                  AND d.deptype = 'e')
ORDER BY 2
"""

_WITH_CHILDREN = """
WITH RECURSIVE found AS (
    SELECT $1::text::regclass::oid AS oid
    UNION SELECT i.inhrelid FROM pg_inherits i JOIN found ON i.inhparent = found.oid
) SELECT oid FROM found
"""

_COLUMNS = """
SELECT a.attname, coalesce(a.attnum = ANY (i.indkey), false) AS in_key
FROM pg_attribute a LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary
WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attname COLLATE "C"
"""

_VIEWS = """
SELECT format('%I.%I', schemaname, matviewname) AS name FROM pg_matviews WHERE ispopulated ORDER BY 1
"""

_HASH = "('x' || substr(md5({row}::text), 1, 16))::bit(64)::bigint"


class CountedTable(NamedTuple):
    """One table that contains rows."""

    oid: int
    name: str  # with its schema, quoted if needed
    size: int
    readable: bool
    hidden: bool  # row-level security hides rows from the role


@contextlib.asynccontextmanager
async def session(
    postgres: Postgres, database: str, *, database_name: str | None = None, **settings: str | None
) -> AsyncIterator[Any]:
    """A connection with the settings of `PINNED`. `settings` add to them or override them; None leaves one out.

    Raises Unavailable for errors of PostgreSQL that a retry may solve, and StepFailed for all others.
    """
    application = "rollback-responder snapshot"
    pinned = {name: value for name, value in {**PINNED, **settings}.items() if value is not None}
    try:
        async with postgres.session(
            database, application=application, database_name=database_name, **pinned
        ) as connection:
            yield connection
    except ResponderError:
        raise
    except Exception as e:
        state = getattr(e, "sqlstate", None)
        if state is None:
            raise
        message = f"{database}: {error_text(e)} (SQLSTATE {state})"
        raise (Unavailable(message) if state.startswith(("40", "53", "55P03", "57")) else StepFailed(message)) from e


async def tables_of(connection: Any, names: Iterable[str] | None = None) -> tuple[CountedTable, ...]:
    """All tables, or the named ones with their partitions and child tables. Raises StepFailed for a missing one."""
    found = tuple(CountedTable(*row) for row in await connection.fetch(_TABLES))
    if names is None:
        return found
    chosen: set[int] = set()
    for name in names:
        try:
            async with connection.transaction():
                chosen |= {row["oid"] for row in await connection.fetch(_WITH_CHILDREN, name)}
        except Exception as e:
            if getattr(e, "sqlstate", "") in ("42P01", "42602", "3F000", "42601"):
                raise StepFailed(
                    f"unknown table {name}: expected an existing table with its schema, such as public.orders"
                ) from e
            raise
    return tuple(table for table in found if table.oid in chosen)


async def materialized_views_of(connection: Any) -> tuple[str, ...]:
    """The populated materialized views."""
    return tuple(row["name"] for row in await connection.fetch(_VIEWS))


async def table_checksum(connection: Any, table: CountedTable, sampled_one_in: int = 1) -> TableChecksum:
    """Counts and hashes the table's own rows. With `sampled_one_in` above 1 it hashes a sample, chosen by key.

    It sorts the columns by name: a restored table may have them in another order.
    """
    columns = await connection.fetch(_COLUMNS, table.oid)
    row = _row(column["attname"] for column in columns)
    if sampled_one_in > 1:
        key = _row([c["attname"] for c in columns if c["in_key"]] or [columns[0]["attname"]])
        where = f"WHERE mod({_HASH.format(row=key)}, {int(sampled_one_in)}) = 0"
    else:
        where = ""
    rows, total = await connection.fetchrow(
        f"SELECT (SELECT count(*) FROM ONLY {table.name}), sum({_HASH.format(row=row)}) "
        f"FROM ONLY {table.name} AS r {where}"
    )
    return TableChecksum(table=table.name, rows=rows, hash=str(total or 0), sampled_one_in=sampled_one_in)


async def large_object_checksum(connection: Any) -> TableChecksum:
    """Counts and hashes all large objects."""
    row = "ROW(oid, md5(lo_get(oid)))"
    rows, total = await connection.fetchrow(
        f"SELECT count(*), sum({_HASH.format(row=row)}) FROM pg_largeobject_metadata"
    )
    return TableChecksum(table=LARGE_OBJECTS, rows=rows, hash=str(total or 0))


def _row(columns: Iterable[str]) -> str:
    return f"ROW({', '.join(f'r.{quoted(column)}' for column in columns)})"

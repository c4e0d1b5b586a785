"""What is in a database, by its own catalogues: tables with their sizes, and hashes that no order of rows changes."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any, NamedTuple

from responder.backends.postgres.client import Postgres, reason
from responder.backends.postgres.snapshots.manifest import Counted
from responder.errors import ResponderError, StepFailed, Unavailable

LARGE_OBJECTS = "(large objects)"

PINNED = {
    "search_path": "",  # else types that print names print them with or without their schema
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "xmlbinary": "base64",
    "lc_monetary": "C",
    "row_security": "off",  # rows that would be hidden are an error
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}
"""Settings under which equal rows have equal texts."""

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


class Table(NamedTuple):
    oid: int
    name: str  # quoted where it has to be, with its schema
    size: int
    readable: bool
    hidden: bool  # row-level security would hide rows from us


@contextlib.asynccontextmanager
async def session(
    postgres: Postgres, database: str, *, database_name: str | None = None, **settings: str
) -> AsyncIterator[Any]:
    """A connection under which equal rows have equal texts. What PostgreSQL refuses is told as `Halt`, and what
    another try may mend as `Unavailable`.
    """
    application = "rollback-responder snapshot"
    pinned = {**PINNED, **settings}
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
        message = f"{database}: {reason(e)} (SQLSTATE {state})"
        raise (Unavailable(message) if state.startswith(("40", "53", "55P03", "57")) else StepFailed(message)) from e


async def tables_of(connection: Any, wanted: Iterable[str] | None = None) -> tuple[Table, ...]:
    """All that hold rows, or the wanted ones with their partitions and children. Raises Halt where one is not there."""
    found = tuple(Table(*row) for row in await connection.fetch(_TABLES))
    if wanted is None:
        return found
    chosen: set[int] = set()
    for name in wanted:
        try:
            async with connection.transaction():
                chosen |= {row["oid"] for row in await connection.fetch(_WITH_CHILDREN, name)}
        except Exception as e:
            if getattr(e, "sqlstate", "") in ("42P01", "42602", "3F000", "42601"):
                raise StepFailed(f"there is no table {name}: name it with its schema, as public.orders") from e
            raise
    return tuple(table for table in found if table.oid in chosen)


async def materialized_views_of(connection: Any) -> tuple[str, ...]:
    return tuple(row["name"] for row in await connection.fetch(_VIEWS))


async def counted(connection: Any, table: Table, one_in: int = 1) -> Counted:
    """Counts and hashes a table's own rows. The columns are taken by name: a restored table may have them in another
    order. With `one_in` only so many rows are hashed, chosen by a hash of their key.
    """
    columns = await connection.fetch(_COLUMNS, table.oid)
    row = _row(column["attname"] for column in columns)
    if one_in > 1:
        key = _row([c["attname"] for c in columns if c["in_key"]] or [columns[0]["attname"]])
        where = f"WHERE mod({_HASH.format(row=key)}, {int(one_in)}) = 0"
    else:
        where = ""
    rows, total = await connection.fetchrow(
        f"SELECT (SELECT count(*) FROM ONLY {table.name}), sum({_HASH.format(row=row)}) "
        f"FROM ONLY {table.name} AS r {where}"
    )
    return Counted(table=table.name, rows=rows, hash=str(total or 0), one_in=one_in)


async def large_objects(connection: Any) -> Counted:
    row = "ROW(oid, md5(lo_get(oid)))"
    rows, total = await connection.fetchrow(
        f"SELECT count(*), sum({_HASH.format(row=row)}) FROM pg_largeobject_metadata"
    )
    return Counted(table=LARGE_OBJECTS, rows=rows, hash=str(total or 0))


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _row(columns: Iterable[str]) -> str:
    return f"ROW({', '.join(f'r.{quoted(column)}' for column in columns)})"

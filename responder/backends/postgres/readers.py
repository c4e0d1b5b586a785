"""Who reads a table or columns that a migration removes, besides the views that depend on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from responder.backends.postgres.sql import quoted, shortened, without_literals

if TYPE_CHECKING:
    from responder.backends.postgres.schemas import Schemas

_MOST = 5
"""Sessions that one note names."""

_ROLES = """
SELECT DISTINCT coalesce(r.rolname, 'PUBLIC') AS role FROM pg_class c
  CROSS JOIN LATERAL (
    SELECT grantee, privilege_type FROM aclexplode(c.relacl)
    UNION SELECT x.grantee, x.privilege_type FROM pg_attribute a CROSS JOIN LATERAL aclexplode(a.attacl) x
     WHERE a.attrelid = c.oid AND (a.attname = ANY ($2) OR $2 = '{}')) AS granted
  LEFT JOIN pg_roles r ON r.oid = granted.grantee
 WHERE c.oid = to_regclass($1) AND granted.privilege_type = 'SELECT' AND granted.grantee <> c.relowner
 ORDER BY 1
"""

_FUNCTIONS = r"""
SELECT p.oid::regprocedure::text AS function FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
   AND p.prosrc ~* ('\m' || $1 || '\M') AND ($2 = '' OR p.prosrc ~* ('\m(' || $2 || ')\M'))
   AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.objid = p.oid AND e.deptype = 'e')
 ORDER BY 1
"""

_SESSIONS = r"""
SELECT usename::text AS role, application_name AS application, host(client_addr) AS address, count(*) AS sessions,
       left(max(query), 200) AS query
  FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
   AND application_name !~ '^rollback[:-]' AND query ~* ('\m' || $1 || '\M')
   AND ($2 = '' OR query ~* ('\m(' || $2 || ')\M|\*'))
 GROUP BY 1, 2, 3 ORDER BY 4 DESC, 1, 2, 3
"""

_HIDDEN = """
SELECT count(*) AS sessions, string_agg(DISTINCT usename, ', ') AS roles FROM pg_stat_activity
 WHERE datname = current_database() AND backend_type = 'client backend' AND query = '<insufficient privilege>'
"""


Removed = tuple[str, str, tuple[str, ...]]
"""A table as SQL and by name, and its columns that are removed; all if there are none."""


async def reader_notes(schemas: Schemas, database: str, removed: Sequence[Removed]) -> list[str]:
    """The roles that may read what is removed, functions that name it, and sessions that read it last."""
    notes: list[str] = []
    for table, name, columns in dict.fromkeys(removed):
        what = ", ".join(f"{table}.{quoted(column)}" for column in columns) or table
        roles = [row["role"] for row in await schemas.rows(database, _ROLES, table, list(columns))]
        if roles:
            notes.append(f"{what} can also be read by {_named('role', roles)}, which lose it")
        words = _pattern(name), "|".join(map(_pattern, columns))
        functions = [row["function"] for row in await schemas.rows(database, _FUNCTIONS, *words)]
        if functions:
            notes.append(f"{what} is named in {_named('function', functions)}")
        sessions = await schemas.rows(database, _SESSIONS, *words)
        for row in sessions[:_MOST]:
            number = f"{row['sessions']} {'session' if row['sessions'] == 1 else 'sessions'}"
            who = f"role {row['role']}, application {row['application'] or 'unnamed'}, {row['address'] or 'local'}"
            notes.append(f"{what} was read last by {number} ({who}): {shortened(without_literals(row['query']))}")
        if len(sessions) > _MOST:
            notes.append(f"{what} was read last by {len(sessions) - _MOST} more roles or applications")
    if removed and (hidden := (await schemas.rows(database, _HIDDEN))[0])["sessions"]:
        number = f"{hidden['sessions']} {'session' if hidden['sessions'] == 1 else 'sessions'}"
        notes.append(
            f"what {number} of {hidden['roles']} read is hidden from the role of {database}: grant pg_read_all_stats"
        )
    return notes


def _named(kind: str, names: list[str]) -> str:
    return f"{kind}{'s' if len(names) > 1 else ''} {', '.join(names)}"


def _pattern(name: str) -> str:
    """The name as a regular expression of PostgreSQL."""
    return "".join(letter if letter.isalnum() or letter == "_" else f"\\{letter}" for letter in name)

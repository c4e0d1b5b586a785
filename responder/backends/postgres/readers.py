"""Who reads a table or columns that a migration removes, besides the views that depend on them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from responder.backends.postgres.sql import quoted, shortened, without_literals

if TYPE_CHECKING:
    from responder.backends.postgres.schemas import Schemas

_MOST = 5
"""Sessions that are named for one table."""

_REMOVED = (
    "unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS removed(source, name_pattern, column_pattern, n)"
)
"""The tables as SQL, the patterns of their names, and those of the columns; an empty pattern for all columns."""

_ROLES = f"""
SELECT DISTINCT removed.n AS number, coalesce(r.rolname, 'PUBLIC') AS reader FROM {_REMOVED}
  JOIN pg_class c ON c.oid = to_regclass(removed.source)
  CROSS JOIN LATERAL (
    SELECT grantee, privilege_type FROM aclexplode(c.relacl)
    UNION SELECT x.grantee, x.privilege_type FROM pg_attribute a CROSS JOIN LATERAL aclexplode(a.attacl) AS x
     WHERE a.attrelid = c.oid AND (column_pattern = '' OR a.attname ~ ('^(' || column_pattern || ')$'))) AS granted
  LEFT JOIN pg_roles r ON r.oid = granted.grantee
 WHERE granted.privilege_type = 'SELECT' AND granted.grantee <> c.relowner
 ORDER BY 1, 2
"""

_FUNCTIONS = rf"""
SELECT removed.n AS number, p.oid::regprocedure::text AS reader FROM {_REMOVED}
  JOIN pg_proc p ON p.prosrc ~* ('\m' || name_pattern || '\M')
   AND (column_pattern = '' OR p.prosrc ~* ('\m(' || column_pattern || ')\M'))
  JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
   AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.objid = p.oid AND e.deptype = 'e')
 ORDER BY 1, 2
"""

_SESSIONS = rf"""
SELECT removed.n AS number, usename::text AS role, application_name AS application, host(client_addr) AS address,
       count(*) AS sessions, left(max(query), 200) AS query
  FROM {_REMOVED} JOIN pg_stat_activity s ON s.query ~* ('\m' || name_pattern || '\M')
   AND (column_pattern = '' OR s.query ~* ('\m(' || column_pattern || ')\M|\*'))
 WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
   AND application_name !~ '^rollback[:-]'
 GROUP BY 1, 2, 3, 4 ORDER BY 1, 5 DESC, 2, 3, 4
"""

_HIDDEN = """
SELECT count(*) AS sessions, string_agg(DISTINCT usename, ', ') AS roles FROM pg_stat_activity
 WHERE datname = current_database() AND backend_type = 'client backend' AND query = '<insufficient privilege>'
"""

Removed = tuple[str, str, tuple[str, ...]]
"""A table as SQL and by name, and its columns that are removed; all if there are none."""


async def reader_notes(schemas: Schemas, database: str, removed: Sequence[Removed]) -> list[str]:
    """The roles that may read what is removed, functions that name it, and sessions that read it last."""
    distinct = list(dict.fromkeys(removed))
    if not distinct:
        return []
    parameters = (
        [table for table, _, _ in distinct],
        [_pattern(name) for _, name, _ in distinct],
        ["|".join(map(_pattern, columns)) for _, _, columns in distinct],
    )
    notes: dict[int, list[str]] = defaultdict(list)
    texts = {"can also be read by role": _ROLES, "is named in function": _FUNCTIONS}
    for text, query in texts.items():
        readers: dict[int, list[str]] = defaultdict(list)
        for row in await schemas.rows(database, query, *parameters):
            readers[row["number"]].append(row["reader"])
        for number, names in readers.items():
            plural = "s" if len(names) > 1 else ""
            notes[number].append(f"{_what(distinct[number - 1])} {text}{plural} {', '.join(names)}")
    sessions: dict[int, int] = defaultdict(int)
    for row in await schemas.rows(database, _SESSIONS, *parameters):
        number = row["number"]
        sessions[number] += 1
        who = f"role {row['role']}, application {row['application'] or 'unnamed'}, {row['address'] or 'local'}"
        text = f"{_sessions(row['sessions'])} ({who}): {shortened(without_literals(row['query']))}"
        if sessions[number] <= _MOST:
            notes[number].append(f"{_what(distinct[number - 1])} was read last by {text}")
    for number, found in sessions.items():
        if found > _MOST:
            notes[number].append(f"{_what(distinct[number - 1])} was read last by {found - _MOST} more applications")
    hidden = (await schemas.rows(database, _HIDDEN))[0]
    reason = f"what {_sessions(hidden['sessions'])} of {hidden['roles']} read is hidden: grant pg_read_all_stats"
    return [
        *(note for number in sorted(notes) for note in notes[number]),
        *([f"{reason} to the role of database {database}"] if hidden["sessions"] else []),
    ]


def _what(removed: Removed) -> str:
    table, _, columns = removed
    return ", ".join(f"{table}.{quoted(column)}" for column in columns) or table


def _sessions(count: int) -> str:
    return f"{count} {'session' if count == 1 else 'sessions'}"


def _pattern(name: str) -> str:
    """The name as a regular expression of PostgreSQL."""
    return "".join(letter if letter.isalnum() or letter == "_" else f"\\{letter}" for letter in name)

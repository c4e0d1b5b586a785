"""SQL that restores preserved data.

With `original` the SQL uses the names from before the script, else the names at the statement that destroyed the data.
`copy` is the name of the preserved table in the side schema.
"""

from __future__ import annotations

import re

from responder.backends.postgres.catalog import KEEP, Column, Table
from responder.backends.postgres.preservation.script_names import ScriptNames
from responder.backends.postgres.sql import Name, literal, quoted


def only(table: Table) -> str:
    """`ONLY ` for a plain table, which holds its own rows. The rows of a partitioned table are in its partitions."""
    return "ONLY " if table.kind == "r" else ""


def full_name(text: str) -> Name:
    """A name from the catalogs, with its schema."""
    parts = [
        part.replace('""', '"') for part in re.findall(r'"((?:[^"]|"")*)"|([^".]+)', text) for part in part if part
    ]
    return Name(parts[1], parts[0])


def insert(names: ScriptNames, name: Name, table: Table, copy: str, original: bool) -> str:
    """Inserts the missing rows. PostgreSQL computes generated columns again.

    Values of user-defined types go through text: a type of that name may have been created again.
    """
    current, original_name = names.current_columns(name), names.original(name)
    columns = [c for c in table.columns if not c.generated and (original_name, c.name) not in names.dropped]
    columns = [
        c.model_copy(update={"built_in": c.built_in and (original_name, c.name) not in names.retyped}) for c in columns
    ]
    destination, renamed = (original_name, {}) if original else (str(name), current)
    listed = ", ".join(quoted(renamed.get(c.name, c.name)) for c in columns)
    values = ", ".join(_value(c, current.get(c.name, c.name)) for c in columns)
    return (
        f"INSERT INTO {destination} ({listed}) OVERRIDING SYSTEM VALUE SELECT {values}"
        f" FROM {only(table)}{KEEP}.{quoted(copy)} AS k ON CONFLICT DO NOTHING"
    )


def update(names: ScriptNames, name: Name, table: Table, columns: list[Column], copy: str, original: bool) -> list[str]:
    """Replaces the values of the columns, row by row."""
    if not columns:
        return []
    current = names.current_columns(name)
    renamed = {} if original else current
    sets = ", ".join(
        f"{quoted(renamed.get(c.name, c.name))} = {_value(c, current.get(c.name, c.name))}" for c in columns
    )
    match = _same_key(table, renamed, current)
    destination = names.original(name) if original else name
    return [f"UPDATE {only(table)}{destination} AS t SET {sets} FROM {KEEP}.{quoted(copy)} AS k WHERE {match}"]


def fill(names: ScriptNames, name: Name, table: Table, columns: list[Column], copy: str) -> str:
    """Sets the columns where they are NULL, by the original names."""
    current = names.current_columns(name)
    sets = ", ".join(
        f"{quoted(c.name)} = coalesce(t.{quoted(c.name)}, {_value(c, current.get(c.name, c.name))})" for c in columns
    )
    empty = " OR ".join(f"t.{quoted(c.name)} IS NULL" for c in columns)
    match = _same_key(table, {}, current)
    destination = f"{only(table)}{names.original(name)}"
    return f"UPDATE {destination} AS t SET {sets} FROM {KEEP}.{quoted(copy)} AS k WHERE {match} AND ({empty})"


def serials(names: ScriptNames, name: Name, table: Table, copy: str, original: bool) -> list[str]:
    """Advances the sequences of serial columns, so that no number is assigned twice."""
    current, original_name = names.current_columns(name), names.original(name)
    destination, renamed = (original_name, {}) if original else (str(name), current)
    preserved = literal(f"{KEEP}.{quoted(copy)}")
    columns = [
        (renamed.get(c.name, c.name), current.get(c.name, c.name))
        for c in table.columns
        if c.serial and (original_name, c.name) not in names.dropped
    ]
    return [
        f"SELECT setval(pg_get_serial_sequence({literal(destination)}, {literal(column)}), greatest(1,"
        f" max({quoted(column)})::bigint,"
        f" pg_sequence_last_value(pg_get_serial_sequence({preserved}, {literal(preserved_column)})::regclass)))"
        f" FROM {destination}"
        for column, preserved_column in columns
    ]


def advance_sequence(name: Name, copy: str) -> str:
    """Advances a sequence, so that no number is assigned twice. Does nothing if it was never used or was dropped."""
    preserved = literal(f"{KEEP}.{quoted(copy)}")
    return (
        f"SELECT setval(s.seqrelid, CASE WHEN s.seqincrement > 0 THEN greatest(k.last, t.last_value)"
        f" ELSE least(k.last, t.last_value) END) FROM {name} AS t, pg_sequence AS s,"
        f" (SELECT pg_sequence_last_value(to_regclass({preserved})) AS last) AS k"
        f" WHERE s.seqrelid = {literal(str(name))}::regclass AND k.last IS NOT NULL"
    )


def _value(column: Column, name: str) -> str:
    value = f"k.{quoted(name)}"
    return value if column.built_in else f"{value}::text::{column.type}"


def _same_key(table: Table, renamed: dict[str, str], current: dict[str, str]) -> str:
    """Compares the keys; those of user-defined types as text."""
    keys = [column for key in table.key if (column := table.column(key))]
    return " AND ".join(
        f"t.{quoted(renamed.get(c.name, c.name))}{cast} = k.{quoted(current.get(c.name, c.name))}{cast}"
        for c in keys
        for cast in ["" if c.built_in else "::text"]
    )

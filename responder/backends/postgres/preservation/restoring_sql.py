"""SQL that restores preserved data.

With `original` the SQL uses the names from before the script, else those from before the step that destroyed the data.
`copy` is the name of the preserved table in the side schema.
"""

from __future__ import annotations

import re

from responder.backends.postgres.catalog import KEEP, Column, Table
from responder.backends.postgres.preservation.script_names import Naming, ScriptNames
from responder.backends.postgres.sql import Name, literal, quoted


def only(table: Table) -> str:
    """`ONLY ` for a plain table, which holds its own rows. The rows of a partitioned table are in its partitions."""
    return "ONLY " if table.kind == "r" else ""


def full_name(text: str) -> Name:
    """The name that SQL writes, with its schema if given."""
    parts = [
        part.replace('""', '"') for part in re.findall(r'"((?:[^"]|"")*)"|([^".]+)', text) for part in part if part
    ]
    return Name(parts[-1], parts[0] if len(parts) > 1 else "")


def insert(names: ScriptNames, name: Name, table: Table, copy: str, original: bool) -> str:
    """Inserts the missing rows. PostgreSQL computes generated columns again.

    Values of user-defined types go through text: a type of that name may have been created again.
    """
    current, original_name = names.current_columns(name), names.original(name)
    columns = [c for c in table.columns if not c.generated and (original_name, c.name) not in names.dropped]
    then = names.at_script_start(name) if original else names.at_step_start(name)
    listed = ", ".join(quoted(then.columns.get(c.name, c.name)) for c in columns)
    values = ", ".join(_value(c, current.get(c.name, c.name), then) for c in columns)
    return (
        f"INSERT INTO {then.table} ({listed}) OVERRIDING SYSTEM VALUE SELECT {values}"
        f" FROM {only(table)}{KEEP}.{quoted(copy)} AS k ON CONFLICT DO NOTHING"
    )


def update(names: ScriptNames, name: Name, table: Table, columns: list[Column], copy: str, original: bool) -> list[str]:
    """Replaces the values of the columns, row by row."""
    if not columns:
        return []
    current = names.current_columns(name)
    then = names.at_script_start(name) if original else names.at_step_start(name)
    sets = ", ".join(
        f"{quoted(then.columns.get(c.name, c.name))} = {_value(c, current.get(c.name, c.name), then)}" for c in columns
    )
    match = _same_key(table, then, current)
    return [f"UPDATE {only(table)}{then.table} AS t SET {sets} FROM {KEEP}.{quoted(copy)} AS k WHERE {match}"]


def fill(names: ScriptNames, name: Name, table: Table, columns: list[Column], copy: str) -> str:
    """Sets the columns where they are NULL, by the original names."""
    current, then = names.current_columns(name), names.at_script_start(name)
    sets = ", ".join(
        f"{quoted(c.name)} = coalesce(t.{quoted(c.name)}, {_value(c, current.get(c.name, c.name), then)})"
        for c in columns
    )
    empty = " OR ".join(f"t.{quoted(c.name)} IS NULL" for c in columns)
    match = f"{_same_key(table, then, current)} AND ({empty})"
    return f"UPDATE {only(table)}{then.table} AS t SET {sets} FROM {KEEP}.{quoted(copy)} AS k WHERE {match}"


def serials(names: ScriptNames, name: Name, table: Table, copy: str, original: bool) -> list[str]:
    """Advances the sequences of serial columns, so that no number is assigned twice. Unused ones stay unused."""
    current, original_name = names.current_columns(name), names.original(name)
    then = names.at_script_start(name) if original else names.at_step_start(name)
    preserved = literal(f"{KEEP}.{quoted(copy)}")
    columns = [
        (then.columns.get(c.name, c.name), current.get(c.name, c.name))
        for c in table.columns
        if c.serial and (original_name, c.name) not in names.dropped
    ]
    return [
        f"SELECT setval(pg_get_serial_sequence({literal(then.table)}, {literal(column)}),"
        f" greatest(1, {largest}, {last})) FROM {then.table} HAVING coalesce({largest}, {last}) IS NOT NULL"
        for column, preserved_column in columns
        for largest in [f"max({quoted(column)})::bigint"]
        for serial in [f"pg_get_serial_sequence({preserved}, {literal(preserved_column)})"]
        for last in [f"pg_sequence_last_value({serial}::regclass)"]
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


def _value(column: Column, name: str, then: Naming) -> str:
    value = f"k.{quoted(name)}"
    if column.built_in and column.name not in then.types:
        return value
    return f"{value}::text::{then.types.get(column.name) or column.type}"


def _same_key(table: Table, then: Naming, current: dict[str, str]) -> str:
    """Compares the keys; those of user-defined types as text."""
    keys = [column for key in table.key if (column := table.column(key))]
    return " AND ".join(
        f"t.{quoted(then.columns.get(c.name, c.name))}{cast} = k.{quoted(current.get(c.name, c.name))}{cast}"
        for c in keys
        for cast in ["" if c.built_in else "::text"]
    )

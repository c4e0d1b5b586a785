"""The SQL that brings back what was kept."""

from __future__ import annotations

import re

from responder.backends.postgres.catalog import KEEP, Column, Table
from responder.backends.postgres.preservation.script_names import ScriptNames
from responder.backends.postgres.sql import Name, literal, quoted


def only(found: Table) -> str:
    """A partitioned table has its rows in its partitions, any other one has its own."""
    return "ONLY " if found.kind == "r" else ""


def full_name(text: str) -> Name:
    """A name as the catalogs tell it, with its schema."""
    parts = [
        part.replace('""', '"') for part in re.findall(r'"((?:[^"]|"")*)"|([^".]+)', text) for part in part if part
    ]
    return Name(parts[1], parts[0])


def _cast(column: Column, called: str) -> str:
    value = f"k.{quoted(called)}"
    return value if column.built_in else f"{value}::text::{column.type}"


def serials(names: ScriptNames, name: Name, found: Table, keep: str, now: bool) -> list[str]:
    """Numbers that were given out are not given out again."""
    table, called = (names.now(name), {}) if now else (str(name), names.columns_then(name))
    there, then = literal(f"{KEEP}.{quoted(keep)}"), names.columns_then(name)
    columns = [
        (called.get(c.name, c.name), then.get(c.name, c.name))
        for c in found.columns
        if c.serial and (names.now(name), c.name) not in names.gone
    ]
    return [
        f"SELECT setval(pg_get_serial_sequence({literal(table)}, {literal(c)}), greatest(1,"
        f" max({quoted(c)})::bigint,"
        f" pg_sequence_last_value(pg_get_serial_sequence({there}, {literal(k)})::regclass))) FROM {table}"
        for c, k in columns
    ]


def insert(names: ScriptNames, name: Name, found: Table, keep: str, now: bool) -> str:
    """Generated columns are made again; a type of the user's own may be another of that name by then."""
    then, at = names.columns_then(name), names.now(name)
    taken = [c for c in found.columns if not c.generated and (at, c.name) not in names.gone]
    taken = [c.model_copy(update={"built_in": c.built_in and (at, c.name) not in names.retyped}) for c in taken]
    table, called = (names.now(name), {}) if now else (str(name), then)
    called_so = ", ".join(quoted(called.get(c.name, c.name)) for c in taken)
    values = ", ".join(_cast(c, then.get(c.name, c.name)) for c in taken)
    return (
        f"INSERT INTO {table} ({called_so}) OVERRIDING SYSTEM VALUE SELECT {values}"
        f" FROM {only(found)}{KEEP}.{quoted(keep)} AS k ON CONFLICT DO NOTHING"
    )


def update(names: ScriptNames, name: Name, found: Table, columns: list[Column], keep: str, now: bool) -> list[str]:
    """The values of these columns, row by row."""
    if not columns:
        return []
    then = names.columns_then(name)
    called = {} if now else then
    sets = ", ".join(f"{quoted(called.get(c.name, c.name))} = {_cast(c, then.get(c.name, c.name))}" for c in columns)
    match = _match(found, called, then)
    table = names.now(name) if now else name
    return [f"UPDATE {only(found)}{table} AS t SET {sets} FROM {KEEP}.{quoted(keep)} AS k WHERE {match}"]


def gently(names: ScriptNames, name: Name, found: Table, columns: list[Column], keep: str) -> str:
    """The same by the names of now, only where there is no value meanwhile."""
    then = names.columns_then(name)
    sets = ", ".join(
        f"{quoted(c.name)} = coalesce(t.{quoted(c.name)}, {_cast(c, then.get(c.name, c.name))})" for c in columns
    )
    empty = " OR ".join(f"t.{quoted(c.name)} IS NULL" for c in columns)
    match = _match(found, {}, then)
    table = f"{only(found)}{names.now(name)}"
    return f"UPDATE {table} AS t SET {sets} FROM {KEEP}.{quoted(keep)} AS k WHERE {match} AND ({empty})"


def _match(found: Table, called: dict[str, str], then: dict[str, str]) -> str:
    """Same key. A type of the user's own may be another one by now, so those values are compared as text."""
    keys = [column for key in found.key if (column := found.column(key))]
    return " AND ".join(
        f"t.{quoted(called.get(c.name, c.name))}{cast} = k.{quoted(then.get(c.name, c.name))}{cast}"
        for c in keys
        for cast in ["" if c.built_in else "::text"]
    )


def sequence(name: Name, keep: str) -> str:
    """No number is given out again. Does nothing where none was given out, or the sequence went with its table."""
    there = literal(f"{KEEP}.{quoted(keep)}")
    return (
        f"SELECT setval(s.seqrelid, CASE WHEN s.seqincrement > 0 THEN greatest(k.last, t.last_value)"
        f" ELSE least(k.last, t.last_value) END) FROM {name} AS t, pg_sequence AS s,"
        f" (SELECT pg_sequence_last_value(to_regclass({there})) AS last) AS k"
        f" WHERE s.seqrelid = {literal(str(name))}::regclass AND k.last IS NOT NULL"
    )

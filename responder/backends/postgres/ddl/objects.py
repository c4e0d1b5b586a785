"""Reads the names of dropped and created objects from tokens: the SQL parser does not support all kinds of objects."""

from __future__ import annotations

import re

from responder.backends.postgres.sql import Name, folded

_DROP = re.compile(
    r"DROP\s+(TYPE|DOMAIN|SEQUENCE|COLLATION|EXTENSION|SCHEMA|FUNCTION|PROCEDURE|ROUTINE|AGGREGATE)\s+(?:IF\s+EXISTS\s+)?",
    re.I,
)
_NAME = re.compile(r'\s*("(?:[^"]|"")*"|[^\s.,()"]+)\s*')
_DOTTED = rf"{_NAME.pattern}(?:\.{_NAME.pattern})?"


def dropped_objects(sql: str) -> tuple[str, tuple[Name, ...]] | None:
    """The kind in upper case and the names without arguments. None if the statement drops none of these kinds."""
    if (found := _DROP.match(sql)) is None:
        return None
    listed = re.sub(r"\b(CASCADE|RESTRICT)\s*$", "", sql[found.end() :], flags=re.I)
    while (inner := re.sub(r"\([^()]*\)", "", listed)) != listed:
        listed = inner
    names = []
    for item in re.findall(r'(?:"(?:[^"]|"")*"|[^,"])+', listed):
        parts = [_unquoted(part) for part in _NAME.findall(item)]
        if parts:
            names.append(Name(parts[-1], parts[-2] if len(parts) > 1 else ""))
    return (found[1].upper(), tuple(names)) if names else None


def created_type(sql: str) -> Name | None:
    """The type or domain that a CREATE statement creates. None for any other statement."""
    found = created_object(sql)
    return found[1] if found and found[0] == "TYPE" else None


def created_object(sql: str) -> tuple[str, Name] | None:
    """The type (or domain), sequence or extension that a CREATE statement creates, and its kind.

    None for any other statement, and with IF NOT EXISTS: the object may be older.
    """
    pattern = r"CREATE\s+(TYPE|DOMAIN|(?:(?:TEMP|TEMPORARY|UNLOGGED)\s+)?SEQUENCE|EXTENSION)\s+(?!IF\s+NOT\b)"
    if (found := re.match(pattern, sql, re.I)) is None:
        return None
    dotted = re.match(_DOTTED, sql[found.end() :])
    if dotted is None:
        return None
    kind = found[1].split()[-1].upper().replace("DOMAIN", "TYPE")
    first, second = _unquoted(dotted[1]), dotted[2]
    return kind, Name(_unquoted(second), first) if second else Name(first)


def moved_table(sql: str) -> tuple[Name, str] | None:
    """The table that a statement moves to another schema, and that schema. None for any other statement."""
    pattern = rf"ALTER\s+TABLE\s+(?:IF\s+EXISTS\s+)?(?:ONLY\s+)?{_DOTTED}SET\s+SCHEMA{_NAME.pattern}$"
    if (found := re.match(pattern, sql, re.I)) is None:
        return None
    first, second = _unquoted(found[1]), found[2]
    return Name(_unquoted(second), first) if second else Name(first), _unquoted(found[3])


def _unquoted(part: str) -> str:
    return part[1:-1].replace('""', '"') if part.startswith('"') else folded(part)

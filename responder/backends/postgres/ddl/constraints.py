"""Constraints that a statement adds, each with the query that counts the rows that violate it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from responder.backends.postgres.sql import Name, folded, literal, shortened

_WORD = r'(?:"(?:[^"]|"")+"|[A-Za-z_][\w$]*)'
_NAME = rf"(?:{_WORD}\.)?{_WORD}"
_COLUMNS = rf"\(\s*(?P<columns>{_WORD}(?:\s*,\s*{_WORD})*)\s*\)"
_ADD = rf"ADD\s+(?:CONSTRAINT\s+{_WORD}\s+)?"

_ALTERS = re.compile(rf"ALTER\s+TABLE\s+(?:IF\s+EXISTS\s+)?(?:ONLY\s+)?(?P<table>{_NAME})\s+", re.I)
_CHECK = re.compile(rf"{_ADD}CHECK\s*(?P<condition>\(.*\))(?P<inherits>\s+NO\s+INHERIT)?\s*$", re.I | re.S)
_NOT_NULL = re.compile(rf"ALTER\s+(?:COLUMN\s+)?(?P<columns>{_WORD})\s+SET\s+NOT\s+NULL\s*$", re.I)
_UNIQUE = re.compile(rf"{_ADD}(?:UNIQUE|PRIMARY\s+KEY)\s*{_COLUMNS}\s*(?:(?:NOT\s+)?DEFERRABLE.*|INITIALLY.*)?$", re.I)
_INDEX = re.compile(
    rf"CREATE\s+UNIQUE\s+INDEX\s+(?:CONCURRENTLY\s+)?(?:IF\s+NOT\s+EXISTS\s+)?(?:{_WORD}\s+)?ON\s+(?:ONLY\s+)?"
    rf"(?P<table>{_NAME})\s*(?:USING\s+btree\s*)?{_COLUMNS}\s*$",
    re.I,
)
_KEY = re.compile(
    rf"{_ADD}FOREIGN\s+KEY\s*{_COLUMNS}\s*REFERENCES\s+(?P<other>{_NAME})\s*"
    rf"\(\s*(?P<others>{_WORD}(?:\s*,\s*{_WORD})*)\s*\)(?!.*\bNOT\s+VALID\b)",
    re.I | re.S,
)
_COLUMN = re.compile(
    rf"ADD\s+(?:COLUMN\s+)?(?!(?:IF|CONSTRAINT|CHECK|UNIQUE|PRIMARY|FOREIGN|EXCLUDE)\b)(?P<column>{_WORD})"
    rf"\s+(?P<type>{_NAME})(?P<options>.*)$",
    re.I | re.S,
)
_HAS_VALUE = re.compile(r"\b(DEFAULT|GENERATED)\b", re.I)
_NOT_EMPTY = re.compile(r"\b(NOT\s+NULL|PRIMARY\s+KEY)\b", re.I)


class Constraint(NamedTuple):
    """A new constraint on the existing rows of a table."""

    table: Name
    sql: str  # the statement, shortened
    count_sql: str  # counts the violations; contains {table}
    unit: str  # what is counted: `row` or `repeated value`
    column: str = ""  # must not be NULL


def new_constraints(sql: str) -> tuple[Constraint, ...]:
    """The constraints whose violations can be counted. PostgreSQL rejects the statement if there are any."""
    if index := _INDEX.match(sql):
        return (_unique(index["table"], index["columns"], sql),)
    if not (head := _ALTERS.match(sql)):
        return ()
    return tuple(found for action in _actions(sql[head.end() :]) if (found := _of_action(head["table"], action, sql)))


def _of_action(table: str, action: str, sql: str) -> Constraint | None:
    name, short = _name(table), shortened(sql)
    if found := _CHECK.match(action):
        only = "ONLY " if found["inherits"] else ""
        query = f"SELECT count(*) FROM {only}{{table}} WHERE NOT {_plain(found['condition'])}"
        return Constraint(name, short, query, "row")
    if found := _NOT_NULL.match(action):
        query = f"SELECT count(*) FROM {{table}} WHERE {_plain(found['columns'])} IS NULL"
        return Constraint(name, short, query, "row", _name(found["columns"]).name)
    if (added := _without_value(action)) and _NOT_EMPTY.search(added["options"]):
        word = _plain(literal(added["type"]))  # a domain may have a default, also one that the script creates
        plain = f"EXISTS (SELECT FROM pg_type WHERE oid = to_regtype({word}) AND typdefault IS NULL)"
        query = f"SELECT count(*) FROM {{table}} WHERE lower({word}) IN ('character', 'double') OR {plain}"
        return Constraint(name, short, query, "row")
    if found := _UNIQUE.match(action):
        return _unique(table, found["columns"], sql)
    if found := _KEY.match(action):
        columns, others = _listed(found["columns"]), _listed(found["others"])
        present = " AND ".join(f"t.{column} IS NOT NULL" for column in columns)
        pairs = " AND ".join(f"o.{other} = t.{column}" for column, other in zip(columns, others, strict=False))
        missing = f"NOT EXISTS (SELECT FROM {_plain(found['other'])} AS o WHERE {pairs})"
        query = f"SELECT count(*) FROM {{table}} AS t WHERE {present} AND {missing}"
        return Constraint(name, short, query, "row")
    return None


def columns_without_value(sql: str) -> tuple[tuple[Name, str], ...]:
    """The columns that a statement adds and that are NULL in every existing row, each with its table."""
    if not (head := _ALTERS.match(sql)):
        return ()
    found = filter(None, map(_without_value, _actions(sql[head.end() :])))
    return tuple((_name(head["table"]), _name(added["column"]).name) for added in found)


def _without_value(action: str) -> re.Match[str] | None:
    """The parts of ADD COLUMN, if existing rows get no value."""
    added = _COLUMN.match(action)
    filled = added is None or added["type"].lower().endswith("serial") or _HAS_VALUE.search(added["options"])
    return None if filled else added


def _unique(table: str, columns: str, sql: str) -> Constraint:
    listed = _listed(columns)
    present = " AND ".join(f"{column} IS NOT NULL" for column in listed)
    groups = f"SELECT 1 FROM {{table}} WHERE {present} GROUP BY {', '.join(listed)} HAVING count(*) > 1"
    return Constraint(_name(table), shortened(sql), f"SELECT count(*) FROM ({groups}) AS d", "repeated value")


def _actions(text: str) -> Iterator[str]:
    """The actions of an ALTER TABLE, which commas separate."""
    from sqlglot.dialects.postgres import Postgres
    from sqlglot.tokenizer_core import TokenType

    depth = start = 0
    for token in Postgres().tokenize(text):
        depth += {TokenType.L_PAREN: 1, TokenType.R_PAREN: -1}.get(token.token_type, 0)
        if depth == 0 and token.token_type == TokenType.COMMA:
            yield text[start : token.start].strip()
            start = token.end + 1
    yield text[start:].strip()


def _listed(columns: str) -> list[str]:
    return [_plain(column) for column in re.findall(_WORD, columns)]


def _plain(text: str) -> str:
    """The text for a format string."""
    return text.replace("{", "{{").replace("}", "}}")


def _name(text: str) -> Name:
    parts = [p[1:-1].replace('""', '"') if p.startswith('"') else folded(p) for p in re.findall(_WORD, text)]
    return Name(parts[-1], parts[0] if len(parts) > 1 else "")

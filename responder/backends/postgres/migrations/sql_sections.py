"""Reads files of plain SQL migrations: one file for each direction, or one file with a section for each.

Sections start with `-- migrate:down` (dbmate), `-- +goose Down` or `-- +migrate Down` (sql-migrate).
"""

from __future__ import annotations

import re
from pathlib import Path

from responder.backends.postgres.ddl.parser import parse_statement
from responder.backends.postgres.sql import split_statements
from responder.errors import StepFailed

MigrationFiles = dict[tuple[int, str], tuple[str, str]]
"""Name and text of each migration by its number and its direction, `up` or `down`."""

_OTHERS = "mysql|mariadb|sqlite3?|mssql|sqlserver|oracle|clickhouse|cockroach(?:db)?|spanner|cassandra|h2"
_MARKER = re.compile(r"^--\s*(?:migrate:|\+goose\s+|\+migrate\s+)(up|down)\b.*$", re.M | re.I)


def read_migrations(directory: Path, texts: dict[str, str]) -> MigrationFiles:
    """The migrations in the files of a directory. Files named after another database are left out.

    Raises StepFailed if two files are the same migration.
    """
    found: dict[tuple[int, str], dict[str, str]] = {}
    for name, text in texts.items():
        if (number := re.match(r"(\d+)\D", name)) is None or re.search(rf"\.({_OTHERS})\.", name, re.I):
            continue
        for direction, section in _directions(name, text).items():
            found.setdefault((int(number[1]), direction), {})[name] = section
    files: MigrationFiles = {}
    for key, sections in found.items():
        names = [name for name in sections if len(sections) == 1 or not _other_database(name)] or list(sections)
        if len(names) > 1:
            raise StepFailed(f"{directory / names[1]} and {names[0]} have the same number: rename one")
        files[key] = (names[0], sections[names[0]])
    return files


def _other_database(name: str) -> bool:
    return re.search(rf"[._-]({_OTHERS})[._-]", name, re.I) is not None


def _directions(name: str, text: str) -> dict[str, str]:
    if found := re.search(r"(down|up)\.sql$", name):
        return {found[1]: text}
    markers = list(_MARKER.finditer(text))
    ends = [marker.start() for marker in markers[1:]] + [len(text)]
    sections = {marker[1].lower(): text[marker.end() : end] for marker, end in zip(markers, ends, strict=True)}
    if sections and re.search(r"^--\s*\+goose\s+ENVSUB\s+ON\b", text, re.M | re.I):
        raise StepFailed(f"{name} contains goose ENVSUB: the responder does not fill in variables of the environment")
    return sections


def without_transactions(name: str, text: str) -> str:
    """The script without its transactions, as one: the responder runs it in one transaction.

    Raises StepFailed for other statements that control transactions, for a new value of an enum type before a COMMIT,
    and for unreadable SQL.
    """
    try:
        statements = split_statements(text)
    except ValueError as e:
        raise StepFailed(f"cannot read {name}: {e}") from None
    if not any(_controls_transactions(sql) for sql in statements):
        return text
    found: list[str] = []
    inside = False
    for n, sql in enumerate(statements):
        if not _controls_transactions(sql):
            found.append(sql)
        elif not inside and _BEGIN.fullmatch(sql):
            inside = True
        elif (
            inside and _COMMIT.fullmatch(sql) and not any(parse_statement(earlier).adds_enum_value for earlier in found)
        ):
            inside = False
            found += _COMMITTED if n + 1 < len(statements) else ()
        else:
            raise _not_one_transaction(name, sql)
    if inside:
        raise _not_one_transaction(name, "BEGIN")
    return ";\n".join(found)


_PLAIN = r"(\s+(WORK|TRANSACTION))?"
_BEGIN = re.compile(rf"(BEGIN{_PLAIN}|START\s+TRANSACTION)", re.I)
_COMMIT = re.compile(rf"(COMMIT|END){_PLAIN}", re.I)

_COMMITTED = ("SET CONSTRAINTS ALL IMMEDIATE", "SET CONSTRAINTS ALL DEFERRED")
"""Instead of a COMMIT in the middle: checks what it would check."""


def _controls_transactions(sql: str) -> bool:
    return any(effect.does == "begins or commits" for effect in parse_statement(sql).effects)


def _not_one_transaction(name: str, sql: str) -> StepFailed:
    return StepFailed(
        f"{name} contains {sql.split()[0].upper()}: remove it, the responder runs the file in one transaction"
    )

"""Writes SQL names and literals, and splits scripts into statements."""

from __future__ import annotations

import re

from pydantic.dataclasses import dataclass


@dataclass(frozen=True)
class Name:
    """The name of a table, type or sequence as a statement writes it, with its schema if given."""

    name: str
    schema: str = ""

    def __str__(self) -> str:
        return quoted(self.name) if not self.schema else f"{quoted(self.schema)}.{quoted(self.name)}"


def quoted(name: str) -> str:
    """The name as a quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """The text as a string literal."""
    return "'" + text.replace("'", "''") + "'"


def folded(name: str) -> str:
    """The name in lower case as PostgreSQL folds it: only ASCII letters change."""
    return "".join(letter.lower() if letter.isascii() else letter for letter in name)


def split_statements(script: str) -> list[str]:
    """The statements of a script, without semicolons and the comments between them.

    Raises ValueError for an unterminated literal or comment.
    """
    from sqlglot.dialects.postgres import Postgres
    from sqlglot.errors import TokenError
    from sqlglot.tokenizer_core import TokenType

    try:
        tokens = Postgres().tokenize(script)
    except TokenError as e:
        raise ValueError(f"cannot be split into statements: {e}") from None
    found, first, last = [], None, 0
    for token in tokens:
        if token.token_type == TokenType.SEMICOLON:
            if first is not None:
                found.append(script[first : last + 1])
            first = None
        else:
            first, last = token.start if first is None else first, token.end
    if first is not None:
        found.append(script[first : last + 1])
    return found


def repeatable(sql: str) -> str:
    """A standalone statement that may run twice: no transaction records that it has run."""
    sql = re.sub(r"^(ALTER\s+TYPE\s.*?\sADD\s+VALUE)\s+(?!IF\b)", r"\1 IF NOT EXISTS ", sql, flags=re.I | re.S)
    sql = re.sub(r"^(DROP\s+INDEX\s+CONCURRENTLY)\s+(?!IF\b)", r"\1 IF EXISTS ", sql, flags=re.I)
    return re.sub(
        r"^(CREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY)\s+(?!IF\b|ON\b)", r"\1 IF NOT EXISTS ", sql, flags=re.I
    )


def one_line(sql: str) -> str:
    """The statement in one line, for messages. Do not execute it: it changes whitespace in literals."""
    return " ".join(sql.split())


def shortened(sql: str, most: int = 100) -> str:
    """The statement in one line of at most `most` characters, for messages."""
    line = one_line(sql)
    return line if len(line) <= most else f"{line[: most - 1]}…"


def without_literals(sql: str) -> str:
    """The statement without values of literals, also if the text ends within one."""
    strings = re.sub(r"'(?:[^']|'')*(?:'|$)|\$(\w*)\$.*?(?:\$\1\$|$)", "'…'", sql, flags=re.S)
    return re.sub(r"(?<![\w$\".])\d[\d.]*", "…", strings)

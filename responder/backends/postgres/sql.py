"""SQL as text: names and literals written so that they mean what they say, and scripts cut into statements."""

from __future__ import annotations

import re

from pydantic.dataclasses import dataclass


@dataclass(frozen=True)
class Name:
    """A table, type or sequence, as the statement names it."""

    name: str
    schema: str = ""

    def __str__(self) -> str:
        return quoted(self.name) if not self.schema else f"{quoted(self.schema)}.{quoted(self.name)}"


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def folded(name: str) -> str:
    """As PostgreSQL folds a name: letters beyond ASCII stay."""
    return "".join(letter.lower() if letter.isascii() else letter for letter in name)


def split(script: str) -> list[str]:
    """The statements of a script, without their semicolons and comments between them. Raises ValueError."""
    from sqlglot.dialects.postgres import Postgres
    from sqlglot.errors import TokenError
    from sqlglot.tokenizer_core import TokenType

    try:
        tokens = Postgres().tokenize(script)
    except TokenError as e:
        raise ValueError(f"it cannot be cut into statements: {e}") from None
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
    """What stands alone, so that it may be run once more: whether it had its effect is not on record with it."""
    sql = re.sub(r"^(DROP\s+INDEX\s+CONCURRENTLY)\s+(?!IF\b)", r"\1 IF EXISTS ", sql, flags=re.I)
    return re.sub(
        r"^(CREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY)\s+(?!IF\b|ON\b)", r"\1 IF NOT EXISTS ", sql, flags=re.I
    )


def one_line(sql: str) -> str:
    """All of it in one line, for people to read. Not to be run: blanks in literals are not kept."""
    return " ".join(sql.split())


def shortened(sql: str, most: int = 100) -> str:
    """One line of it, for messages."""
    line = one_line(sql)
    return line if len(line) <= most else f"{line[: most - 1]}…"


def without_literals(sql: str) -> str:
    """What it does, and not to which values; also where the text was cut off in the middle of one."""
    strings = re.sub(r"'(?:[^']|'')*(?:'|$)|\$(\w*)\$.*?(?:\$\1\$|$)", "'…'", sql, flags=re.S)
    return re.sub(r"(?<![\w$\".])\d[\d.]*", "…", strings)

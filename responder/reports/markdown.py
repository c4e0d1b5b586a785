"""Escapes external text for Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

_ESCAPED = {**{c: f"\\{c}" for c in "\\`*_[]|"}, "<": "&lt;", ">": "&gt;", "&": "&amp;", "@": "&#64;"}


def table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    heads = list(columns)
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for row in rows:
        yield f"| {' | '.join(cell(text) for text in row)} |"


def cell(text: str) -> str:
    """The text on one line with its Markdown escaped: no table, link, image, tag or mention."""
    clean = "".join(c if c.isprintable() else " " for c in text)
    return "".join(_ESCAPED.get(c, c) for c in clean)


def code(text: str) -> str:
    clean = "".join(c if c.isprintable() else " " for c in text)
    return f"`{clean.replace('`', chr(39))}`"


def moment(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC" if at else ""

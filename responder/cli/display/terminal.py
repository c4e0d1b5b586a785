"""Formats answers for a terminal: colors, times, tables, and text without control characters."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from foundation.commands.command import Args
from foundation.commands.failure import legible

_UNWRAPPED = 10_000
_COLORS = {
    "succeeded": "green",
    "good": "green",
    "allow": "green",
    "preserve": "green",
    "reverted": "yellow",
    "mitigated": "yellow",
    "cancelled": "yellow",
    "require_approval": "yellow",
    "awaiting_approval": "yellow",
    "candidate": "cyan",
    "running": "cyan",
    "accepted": "cyan",
    "reverting": "yellow",
    "failed": "red",
    "healthy": "green",
    "degraded": "yellow",
    "unknown": "yellow",
    "unhealthy": "bold red",
    "stuck": "bold red",
    "bad": "red",
    "suspect": "red",
    "retired": "dim",
    "deny": "red",
    "ignore": "dim",
}


def word(text: str | None) -> Text:
    """A state, an outcome or a result in its color."""
    return Text(text or "-", style=_COLORS.get(text or "", ""))


def clock(text: str | None) -> str:
    """A time in UTC, without the date if it is today."""
    if not text:
        return "-"
    when = datetime.fromisoformat(text).astimezone(UTC)
    return f"{when:%H:%M:%S} UTC" if when.date() == datetime.now(UTC).date() else f"{when:%Y-%m-%d %H:%M:%S} UTC"


def clean(text: Any) -> str:
    """Text as one line without control characters: a label must not clear or retitle a terminal."""
    return legible(str(text if text is not None else "-"))


def table(title: str, columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> Table:
    """A table without borders; control characters in plain cells are removed."""
    made = Table(title=title, title_justify="left", title_style="bold", header_style="dim", box=None, pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold", no_wrap=column == "id")  # an ID is copied: keep it on one line
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(clean(cell)) for cell in row))
    return made


def console() -> Console:
    """A console as wide as the terminal. Output to a pipe or a file is not wrapped, so that it can be searched."""
    made = Console(highlight=False, soft_wrap=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = _UNWRAPPED
    return made


def out(args: Args, body: Any, shown: Any) -> None:
    """Prints the answer: as received with `--output json`, otherwise formatted for people."""
    if args.output == "json":
        print(json.dumps(body, indent=2))
    else:
        console().print(clean(shown) if isinstance(shown, str) else shown, markup=False)

"""The messages that docs/troubleshooting.md quotes are the messages that the programs write."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "docs" / "troubleshooting.md", ROOT / "docs" / "how-to" / "when-it-is-stuck.md")
FROM_OTHER_PROGRAMS = {"insufficient permissions", "is forbidden", "Can't locate revision"}


@cache
def literals() -> str:
    """Every string of the programs, one per line; an f-string is cut at its placeholders."""
    files = [file for name in ("responder", "exporters", "foundation") for file in (ROOT / name).rglob("*.py")]
    nodes = (node for file in files for node in ast.walk(ast.parse(file.read_text())))
    return "\n".join(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))


def quoted() -> list[str]:
    """The fragments between the ellipses of each quotation: cells in tables of messages, and quoted list items."""
    quotes: list[str] = []
    in_table = False
    for line in "\n".join(page.read_text() for page in PAGES).splitlines():
        in_table = line.startswith(("| message |", "| reason |")) or (in_table and line.startswith("|"))
        if in_table:
            quotes += re.findall(r"`([^`]+)`", line.split("|")[1])
        elif line.startswith('- "'):
            quotes += re.findall(r'"([^"]+)"', line.partition(":")[0])
    pieces = [piece.strip() for quote in quotes for piece in quote.split("…")]
    return [piece for piece in pieces if " " in piece and piece not in FROM_OTHER_PROGRAMS]


def test_the_pages_quote_messages() -> None:
    assert len(quoted()) > 20


@pytest.mark.parametrize("piece", quoted())
def test_every_quoted_message_exists(piece: str) -> None:
    assert piece in literals(), f"{piece!r} is quoted, but no program writes it: quote the message as it is now"

"""The table of rooms in docs/architecture.md, made from the import contracts and the docstrings of the packages."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- rooms: made by `python -m docs.generate` -->\n", "<!-- end of rooms -->"


def layers() -> list[list[str]]:
    """The rooms of `responder` from top to bottom; those in one list do not import each other."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (rooms,) = (contract["layers"] for contract in contracts if contract.get("containers") == ["responder"])
    return [[name.strip() for name in layer.split("|")] for layer in rooms]


def _purpose(room: str) -> str:
    package = ROOT / "responder" / room
    file = package / "__init__.py" if package.is_dir() else package.with_suffix(".py")
    summary = (ast.get_docstring(ast.parse(file.read_text())) or "").split("\n\n")[0].replace("\n", " ")
    return re.split(r" (?:It m|M)ay import ", summary)[0]  # the order of the table shows what it may import


def table() -> str:
    """One line for each room: its name and purpose."""
    rows = [f"| `{room}` | {_purpose(room)} |" for layer in layers() for room in layer]
    return "\n".join(("| room | purpose |", "|---|---|", *rows)) + "\n"


def architecture() -> str:
    """The page as it is, with the current table of rooms."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    return f"{before}{BEGIN}{table()}{END}{rest.partition(END)[2]}"

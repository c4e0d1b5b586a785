"""Problems that `check --live` reports: location, finding and fix."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Problem(NamedTuple):
    """An obstacle to a rollback. `fix` is empty if `found` already implies it."""

    target: str
    found: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.target}: {self.found}" + (f"; {self.fix}" if self.fix else "")


def joined(problems: Iterable[Problem]) -> str:
    """The problems as one text."""
    return "; ".join(map(str, problems))

"""What `check --live` reports: what was looked at, what was found there, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Problem(NamedTuple):
    """One obstacle to a rollback. `fix` is empty where `found` says it already."""

    target: str
    found: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.target}: {self.found}" + (f"; {self.fix}" if self.fix else "")


def joined(problems: Iterable[Problem]) -> str:
    """All of them as one reason."""
    return "; ".join(map(str, problems))

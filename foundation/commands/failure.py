"""An error of a command, as text for people or as one JSON object for programs."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

OK, NO, WRONG = 0, 1, 2
"""Exit codes: success; the negative result that a command documents; wrong usage or configuration, or no answer."""


@dataclass(frozen=True)
class Failure:
    """What failed, where (an option, `file:line path`, a URL), and what to do."""

    error: str
    where: str = ""
    hint: str = ""

    def __str__(self) -> str:
        position, remedy = f"{self.where}: " if self.where else "", f" ({self.hint})" if self.hint else ""
        return "\n".join(map(legible, f"{position}{self.error}{remedy}".splitlines()))

    def json(self) -> str:
        """The object `{error, where, hint}`."""
        return json.dumps(asdict(self), indent=2)


def wants_json(argv: Sequence[str]) -> bool:
    """Whether the arguments ask for JSON. They need not be valid: their errors are JSON too."""
    words = [word for word in argv if word != "--"]
    joined = {f"{option}={value}" for option, value in itertools.pairwise(words)}
    return not joined.union(words).isdisjoint(("--output=json", "--format=json"))


def legible(text: str) -> str:
    """One line that cannot control a terminal: spaces for white space, escapes such as `\\x1b` for other controls."""
    return "".join(c if c.isprintable() else " " if c.isspace() else ascii(c)[1:-1] for c in text)

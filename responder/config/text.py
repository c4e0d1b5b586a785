"""Words that come from others: shown without what would harm, and the nearest known one where one is unknown."""

from __future__ import annotations

import difflib
from collections.abc import Collection


def meant(word: str, known: Collection[str]) -> str:
    """A question to put behind a mistake: whether the nearest known word was meant; empty where none is near."""
    near = difflib.get_close_matches(word, [candidate for candidate in known if candidate != word], n=1)
    return f"; did you mean {near[0]}?" if near else ""


def one_line(text: object, most: int = 500) -> str:
    """Without line breaks and control characters, and cut where it is longer than `most`."""
    full = str(text)
    clean = "".join(c if c.isprintable() else " " for c in full[:most])  # of megabytes only what is shown
    return clean if len(full) <= most else f"{clean[: most - 1]}…"

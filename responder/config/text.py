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


def readable(text: str) -> str:
    """The text without characters that no database stores: lone surrogates and NUL become U+FFFD, as in Go."""
    return without_surrogates(text).replace("\0", "\ufffd")


def without_surrogates(text: str) -> str:
    """The text with U+FFFD for each lone surrogate."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

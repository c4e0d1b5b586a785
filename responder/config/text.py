"""Sanitizes external text."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Returns `1 service`, `2 services`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def one_line(text: object, most: int = 500) -> str:
    """Returns the text without line breaks and control characters, cut after `most` characters."""
    full = str(text)
    clean = "".join(c if c.isprintable() else " " for c in full[:most])
    return clean if len(full) <= most else f"{clean[: most - 1]}…"


def readable(text: str) -> str:
    """Returns the text with U+FFFD for lone surrogates and NUL, which databases do not store. Go does the same."""
    return without_surrogates(text).replace("\0", "\ufffd")


def without_surrogates(text: str) -> str:
    """Returns the text with U+FFFD for each lone surrogate."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

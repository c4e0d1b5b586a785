"""Suggests the known word that a misspelled one stands for."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches


def nearest(word: str, known: Collection[str], *, cutoff: float = 0.6) -> str:
    """Returns the most similar known word other than the word itself; empty if none is similar."""
    candidates = {str(candidate).lower(): str(candidate) for candidate in known if candidate != word}
    near = get_close_matches(word.lower(), candidates, n=1, cutoff=cutoff)
    begun = (name for lower, name in candidates.items() if len(word) > 2 and lower.startswith(word.lower()))
    return candidates[near[0]] if near else next(begun, "")


def meant(word: str, known: Collection[str]) -> str:
    """Returns `; did you mean WORD?` with the most similar known word, or an empty text."""
    near = nearest(word, known)
    return f"; did you mean {near}?" if near else ""

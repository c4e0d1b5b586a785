"""Expected HTTP statuses: `200`, a class such as `2xx`, or a list of both."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator


def _statuses(value: object) -> object:
    if isinstance(value, tuple):
        return value
    patterns = []
    for item in value if isinstance(value, list) else [value]:
        text = str(item)
        if len(text) != 3 or text[0] not in "12345" or not (text[1:].isdigit() or text[1:] == "xx"):
            raise ValueError(f"{item!r} is not a status; write it as 200, or a class as 2xx")
        patterns.append(text)
    if not patterns:
        raise ValueError("names no status, so the check could never succeed; name one, such as 200")
    return tuple(patterns)


Statuses = Annotated[tuple[str, ...], BeforeValidator(_statuses)]


def status_matches(status: int, expected: tuple[str, ...]) -> bool:
    """Returns whether the status equals one of the patterns or is in one of their classes."""
    code = str(status)
    return any(code == pattern or (pattern.endswith("xx") and code[0] == pattern[0]) for pattern in expected)

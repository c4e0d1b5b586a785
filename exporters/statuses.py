"""HTTP statuses as people expect them: `200`, a class such as `2xx`, or a list of both."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator


def _statuses(value: object) -> object:
    if isinstance(value, tuple):
        return value
    found = []
    for item in value if isinstance(value, list) else [value]:
        text = str(item)
        if len(text) != 3 or text[0] not in "12345" or not (text[1:].isdigit() or text[1:] == "xx"):
            raise ValueError(f"{item!r} is not a status such as 200 or a class such as 2xx")
        found.append(text)
    if not found:
        raise ValueError("names no status: nothing could pass")
    return tuple(found)


Statuses = Annotated[tuple[str, ...], BeforeValidator(_statuses)]


def among(status: int, expected: tuple[str, ...]) -> bool:
    """Whether that status is one of them, or in one of their classes."""
    code = str(status)
    return any(code == pattern or (pattern.endswith("xx") and code[0] == pattern[0]) for pattern in expected)

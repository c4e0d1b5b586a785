"""Sizes as people write them (`8MiB`, `200kB`), bytes as a whole number inside the code."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, ValidationInfo

_UNITS = {"B": 1, "kB": 1000, "MB": 1000**2, "GB": 1000**3, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def parse_size(text: object) -> int:
    """Bytes of a size with its unit. Raises ValueError."""
    found = re.fullmatch(r"([0-9]{1,9})\s?([A-Za-z]{1,3})", text) if isinstance(text, str) else None
    if not found or found[2] not in _UNITS:
        raise ValueError(f"{text!r} is not a size such as {', '.join(f'8{unit}' for unit in _UNITS)}")
    return int(found[1]) * _UNITS[found[2]]


def format_size(size: int) -> str:
    """For people: `340 kB`, `4.2 MB`."""
    for unit in ("GB", "MB", "kB"):
        if size >= _UNITS[unit]:
            amount = size / _UNITS[unit]
            return f"{amount:.0f} {unit}" if amount >= 10 else f"{amount:.1f} {unit}"
    return f"{size} B"


def _given(value: object, info: ValidationInfo) -> int:
    # As with durations: our own code hands over bytes, and a user's bare number is a mistake.
    if info.mode == "python" and isinstance(value, int) and not isinstance(value, bool):
        return value
    return parse_size(value)


def exactly(size: int) -> str:
    """As it may be written in the configuration."""
    unit = next(u for u in ("GiB", "MiB", "KiB", "B") if size % _UNITS[u] == 0)
    return f"{size // _UNITS[unit]}{unit}"


Size = Annotated[int, BeforeValidator(_given), PlainSerializer(exactly, return_type=str)]
"""A field in YAML as `8MiB`, in the code in bytes."""

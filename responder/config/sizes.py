"""Sizes such as `8MiB` and `200kB`; bytes as a whole number inside the code.

Not `pydantic.ByteSize`: it accepts a bare number without a unit, and its errors do not list the units.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, ValidationInfo

_UNITS = {"B": 1, "kB": 1000, "MB": 1000**2, "GB": 1000**3, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def parse_size(text: object) -> int:
    """Returns the bytes of a size with its unit. Raises ValueError."""
    found = re.fullmatch(r"([0-9]{1,9})\s?([A-Za-z]{1,3})", text) if isinstance(text, str) else None
    if not found or found[2] not in _UNITS:
        raise ValueError(f"{text!r} is not a size such as {', '.join(f'8{unit}' for unit in _UNITS)}")
    return int(found[1]) * _UNITS[found[2]]


def format_size(size: int) -> str:
    """Returns a rounded size for people: `340 kB`, `4.2 MB`."""
    for unit in ("GB", "MB", "kB"):
        if size >= _UNITS[unit]:
            amount = size / _UNITS[unit]
            return f"{amount:.0f} {unit}" if amount >= 10 else f"{amount:.1f} {unit}"
    return f"{size} B"


def _bytes(value: object, info: ValidationInfo) -> int:
    # As with durations: code passes bytes, but a bare number in the configuration is a mistake.
    if info.mode == "python" and isinstance(value, int) and not isinstance(value, bool):
        return value
    return parse_size(value)


def exactly(size: int) -> str:
    """Returns an exact size as it is written in the configuration: `8MiB`."""
    unit = next(u for u in ("GiB", "MiB", "KiB", "B") if size % _UNITS[u] == 0)
    return f"{size // _UNITS[unit]}{unit}"


Size = Annotated[int, BeforeValidator(_bytes), PlainSerializer(exactly, return_type=str)]
"""The type of a field that is `8MiB` in YAML and bytes in the code."""

"""Durations as Prometheus writes them (`30s`, `5m`, `1h30m`); seconds as a float inside the code."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, ValidationInfo

_UNITS = {"y": 31_536_000_000, "w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
"""Milliseconds."""
_DURATION = re.compile("".join(f"(?:([0-9]{{1,99}}){unit})?" for unit in _UNITS))
_MOST_MILLISECONDS = 2**63 // 1_000_000
"""Prometheus keeps nanoseconds in 64 bits: about 292 years."""


def parse_duration(text: object) -> float:
    """Returns the seconds of a Prometheus duration. `0` is the only number that needs no unit. Raises ValueError.

    The grammar is that of `model.ParseDuration` in Prometheus: whole numbers, each unit once, larger units first.
    """
    if text == "0" or (type(text) is int and text == 0):
        return 0.0
    if not isinstance(text, str):
        raise ValueError(f"a duration needs a unit, such as 30s or 5m, not {text!r}; add the unit")
    match = _DURATION.fullmatch(text)
    if not match or not any(match.groups()):
        raise ValueError(f"{text!r} is not a duration such as 30s, 5m or 1h30m; the units are ms, s, m, h, d, w and y")
    milliseconds = sum(int(n) * size for n, size in zip(match.groups(), _UNITS.values(), strict=True) if n)
    if milliseconds > _MOST_MILLISECONDS:
        raise ValueError(f"{text!r} is longer than about 292 years, the longest of Prometheus; shorten it")
    return milliseconds / 1000


def format_duration(seconds: float) -> str:
    """Returns the shortest Prometheus duration of whole milliseconds, such as `1h30m`. Days are the largest unit."""
    left, out = round(seconds * 1000), ""
    for unit, size in _UNITS.items():
        if unit in ("y", "w"):
            continue
        count, left = divmod(left, size)
        out += f"{count}{unit}" if count else ""
    return out or "0s"


def _seconds(value: object, info: ValidationInfo) -> float:
    # Code passes seconds. Configuration and journal are validated as JSON, where a bare number has no unit.
    if info.mode == "python" and isinstance(value, float):
        return value
    return parse_duration(value)


Duration = Annotated[float, BeforeValidator(_seconds), PlainSerializer(format_duration, return_type=str)]
"""The type of a field that is `30s` in YAML and seconds in the code."""

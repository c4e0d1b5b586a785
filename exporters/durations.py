"""Durations are written as Prometheus writes them (`1m30s`) and are float seconds everywhere inside."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer

UNITS = {"y": 31_536_000_000, "w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
WRITTEN = re.compile("".join(rf"(?:(\d+){unit})?" for unit in UNITS))


def parse(text: object) -> float:
    """Seconds of `30s`, `1m30s`, `500ms`; units from large to small. ValueError for anything else and for zero."""
    match = WRITTEN.fullmatch(text) if isinstance(text, str) and text else None
    if match is None:
        raise ValueError("is not a duration: write it with units from large to small, such as 500ms, 15s or 1m30s")
    milliseconds = sum(int(n) * size for n, size in zip(match.groups(), UNITS.values(), strict=True) if n)
    if milliseconds == 0:
        raise ValueError("must be longer than zero")
    return milliseconds / 1000


def written(seconds: float) -> str:
    """The shortest exact way to write it down to the millisecond: `90s`, `1500ms`."""
    milliseconds = round(seconds * 1000)
    return f"{milliseconds}ms" if milliseconds % 1000 else f"{milliseconds // 1000}s"


Duration = Annotated[float, BeforeValidator(parse), PlainSerializer(written)]

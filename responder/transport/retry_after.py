"""The header `Retry-After`, as RFC 9110 defines it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_LONGEST = 3600.0
"""Seconds. A longer pause is cut to this: the other side may have a wrong clock."""


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait before the next request; None where the header is missing or malformed."""
    value = headers.get("Retry-After", "")
    try:
        if value.isdecimal():
            return min(float(value), _LONGEST)
        pause = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(pause, 0.0), _LONGEST)

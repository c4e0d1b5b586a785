"""The header `Retry-After` (RFC 9110, section 10.2.3)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_LONGEST = 3600.0
"""Seconds. Longer pauses are cut to this, because the clock of the server may be wrong."""


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Returns the seconds to wait before the next request, or None if the header is missing or malformed."""
    value = headers.get("Retry-After", "")
    try:
        if value.isdecimal():
            return min(float(value), _LONGEST)
        pause = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(pause, 0.0), _LONGEST)

"""Freeze windows, in which rollbacks need approval: Alertmanager's `time_intervals` grammar, with time zones."""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from foundation.models import StrictModel

_WEEKDAYS = {name.lower(): n for n, name in enumerate(calendar.day_name)}
_MONTHS = {name.lower(): n for n, name in enumerate(calendar.month_name) if name}
_DAY = 24 * 60
_NONE = -9999  # never within a range


def _minute(value: Any) -> Any:
    if not isinstance(value, str):  # YAML reads a bare 22:00 as the number 1320
        raise ValueError(f'{value!r} is not a time of day; write it in quotes, such as "22:00"')
    found = re.fullmatch(r"([01][0-9]|2[0-4]):([0-5][0-9])", value)
    minutes = int(found[1]) * 60 + int(found[2]) if found else _DAY + 1
    if minutes > _DAY:
        raise ValueError(f'{value!r} is not a time of day from "00:00" to "24:00"')
    return value


def _location(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # a path, a directory, no such zone
        raise ValueError(f"{name!r} is not a time zone such as Europe/Zurich") from None
    return name


def _ranges(least: int, most: int, names: dict[str, int] | None = None) -> Callable[[str], str]:
    """Validates one entry such as `monday`, `1:15` or `january:march`."""

    def check(text: str) -> str:
        first, last = _range(text, names or {})
        known = range(least, most + 1)
        reversed_range = names is None and first > last and (first > 0) == (last > 0)
        if first not in known or last not in known or reversed_range or (least < 0 and 0 in (first, last)):
            allowed = ", ".join(names) if names else f"{least} to {most}"
            raise ValueError(f"{text!r} is neither one of {allowed} nor a range of them such as a:b")
        return text

    return check


def _range(text: str, names: dict[str, int]) -> tuple[int, int]:
    first, _, last = text.lower().partition(":")
    try:
        ends = [names[end] if end in names else int(end) for end in (first, last or first)]
    except ValueError:
        return _NONE, _NONE
    return ends[0], ends[1]


def _as_text(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    return [str(item) if isinstance(item, int) and not isinstance(item, bool) else item for item in value]


def _entries(least: int, most: int, names: dict[str, int] | None = None) -> Any:
    return Annotated[tuple[Annotated[str, AfterValidator(_ranges(least, most, names))], ...], BeforeValidator(_as_text)]


_Clock = Annotated[str, BeforeValidator(_minute)]


class TimeRange(StrictModel):
    """A part of a day; the end is exclusive. Write a range past midnight as two ranges."""

    start_time: _Clock = Field(description='Start, in quotes: "18:00"')
    end_time: _Clock = Field(description='End (exclusive); "24:00" is midnight')

    @model_validator(mode="after")
    def _in_order(self) -> TimeRange:
        if self.start_time >= self.end_time:
            raise ValueError("start_time must be before end_time; write a range past midnight as two ranges")
        return self


class TimeInterval(StrictModel):
    """As in Alertmanager's `time_intervals`: every key that is set must match."""

    times: tuple[TimeRange, ...] = Field(default=(), description="Parts of the day")
    weekdays: _entries(0, 6, _WEEKDAYS) = Field(  # type: ignore[valid-type]
        default=(), description="Days or ranges, such as [saturday, monday:friday]"
    )
    days_of_month: _entries(-31, 31) = Field(  # type: ignore[valid-type]
        default=(), description='Days or ranges, such as [1, "24:26"]; -1 is the last day'
    )
    months: _entries(1, 12, _MONTHS) = Field(default=(), description="Months or ranges, such as [december, 1:3]")  # type: ignore[valid-type]
    years: _entries(1970, 9999) = Field(default=(), description='Years or ranges, such as [2026, "2027:2030"]')  # type: ignore[valid-type]
    location: Annotated[str, AfterValidator(_location)] = Field(
        default="UTC", description="Time zone of the interval, such as Europe/Zurich"
    )

    def covers(self, now: datetime) -> bool:
        """Whether that moment is within the interval."""
        local = now.astimezone(ZoneInfo(self.location))
        last = calendar.monthrange(local.year, local.month)[1]
        clock = f"{local:%H:%M}"
        return (
            (not self.times or any(t.start_time <= clock < t.end_time for t in self.times))
            and _within(self.weekdays, _WEEKDAYS, local.weekday())
            and _within(self.months, _MONTHS, local.month)
            and _within(self.years, {}, local.year)
            and (not self.days_of_month or any(_in_month(text, local.day, last) for text in self.days_of_month))
        )


def _within(entries: tuple[str, ...], names: dict[str, int], value: int) -> bool:
    ranges = [_range(text, names) for text in entries]
    # saturday:monday spans the end of the week.
    return not entries or any(a <= value <= b if a <= b else value >= a or value <= b for a, b in ranges)


def _in_month(text: str, day: int, last: int) -> bool:
    first, end = (n if n > 0 else last + 1 + n for n in _range(text, {}))
    return first <= day <= end


class Freeze(StrictModel):
    """A period in which rollbacks need approval. A rollback that a person requests does not."""

    name: str = Field(min_length=1, description="Name, such as end-of-year")
    time_intervals: Annotated[
        tuple[TimeInterval, ...],
        Field(min_length=1, description="Active in any of these intervals, in Alertmanager's grammar"),
    ]
    services: tuple[str, ...] = Field(default=(), description="Services that it applies to; default: all")
    environments: tuple[str, ...] = Field(default=(), description="Environments that it applies to; default: all")

    def holds(self, service: str, environment: str, now: datetime) -> bool:
        """Whether the window applies to the service at that moment."""
        return (
            (not self.services or service in self.services)
            and (not self.environments or environment in self.environments)
            and any(interval.covers(now) for interval in self.time_intervals)
        )

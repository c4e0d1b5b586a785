"""Freeze windows have the meaning of Alertmanager's time intervals, in their own time zone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from responder.decisions.freeze_windows import Freeze, TimeInterval

NINE = {"times": [{"start_time": "09:00", "end_time": "10:00"}], "location": "Europe/Zurich"}


def covers(when: str, **interval: Any) -> bool:
    at = datetime.fromisoformat(when).replace(tzinfo=UTC)
    return TimeInterval.model_validate(interval).covers(at)


@pytest.mark.parametrize(
    ("interval", "inside", "outside"),
    [
        ({"weekdays": ["saturday", "sunday"]}, "2026-11-28 12:00", "2026-11-27 12:00"),
        ({"weekdays": ["monday:friday"]}, "2026-11-27 12:00", "2026-11-28 12:00"),
        ({"weekdays": ["saturday:monday"]}, "2026-11-30 12:00", "2026-12-01 12:00"),  # across the end of the week
        ({"days_of_month": ["24:26"]}, "2026-12-24 00:00", "2026-12-27 00:00"),
        ({"days_of_month": [-1]}, "2026-02-28 12:00", "2026-02-27 12:00"),
        ({"days_of_month": ["-3:-1"]}, "2028-02-27 12:00", "2028-02-26 12:00"),
        ({"days_of_month": ["1:-1"]}, "2026-02-28 12:00", None),
        ({"months": ["december", "1"]}, "2027-01-05 12:00", "2026-11-30 23:59"),
        ({"months": ["november:january"]}, "2027-01-05 12:00", "2027-02-01 00:00"),
        ({"years": [2026, "2028:2030"]}, "2029-06-01 00:00", "2027-06-01 00:00"),
        ({"times": [{"start_time": "22:00", "end_time": "24:00"}]}, "2026-11-27 23:59", "2026-11-28 00:00"),
        ({"times": [{"start_time": "09:00", "end_time": "17:00"}]}, "2026-11-27 09:00", "2026-11-27 17:00"),
        # In Zurich it is already Saturday, in New York still Friday.
        ({"weekdays": ["saturday"], "location": "Europe/Zurich"}, "2026-11-27 23:00", "2026-11-27 22:59"),
        ({"weekdays": ["friday"], "location": "America/New_York"}, "2026-11-28 04:59", "2026-11-28 05:00"),
        # Daylight saving time: 09:00 in Zurich is 07:00 UTC in July and 08:00 UTC in December.
        (
            {"times": [{"start_time": "09:00", "end_time": "10:00"}], "location": "Europe/Zurich"},
            "2026-07-01 07:30",
            None,
        ),
        (
            {"times": [{"start_time": "09:00", "end_time": "10:00"}], "location": "Europe/Zurich"},
            "2026-12-01 08:30",
            None,
        ),
        ({}, "2026-11-27 12:00", None),
    ],
)
def test_active_times(interval: dict[str, Any], inside: str, outside: str | None) -> None:
    assert covers(inside, **interval)
    assert outside is None or not covers(outside, **interval)


def test_all_given_fields_must_match() -> None:
    night = {"weekdays": ["friday"], "times": [{"start_time": "18:00", "end_time": "24:00"}], "months": ["november"]}
    assert covers("2026-11-27 18:00", **night)
    assert not covers("2026-11-27 17:59", **night)
    assert not covers("2026-12-04 18:00", **night)


@pytest.mark.parametrize(
    ("interval", "message"),
    [
        ({"weekdays": ["sunnday"]}, "'sunnday' is neither one of monday"),
        ({"days_of_month": [0]}, "'0' is neither one of -31 to 31"),
        ({"days_of_month": ["26:24"]}, "'26:24' is neither"),
        ({"years": ["2030:2026"]}, "'2030:2026' is neither"),
        ({"months": ["13"]}, "'13' is neither one of january"),
        ({"times": [{"start_time": 1320, "end_time": "24:00"}]}, "1320 is not a time of day; write it in quotes"),
        ({"times": [{"start_time": "24:30", "end_time": "24:00"}]}, "'24:30' is not a time of day"),
        ({"times": [{"start_time": "22:00", "end_time": "06:00"}]}, "write a range past midnight as two ranges"),
        ({"location": "Europe/Zurch"}, "'Europe/Zurch' is not a time zone"),
        ({"location": "../../etc/passwd"}, "is not a time zone"),
    ],
)
def test_mistakes_are_named(interval: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as raised:
        TimeInterval.model_validate(interval)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("whom", "service", "environment", "holds"),
    [
        ({}, "backend", "production", True),
        ({"services": ["backend"]}, "backend", "production", True),
        ({"services": ["backend"]}, "frontend", "production", False),
        ({"environments": ["production"]}, "backend", "staging", False),
        ({"services": ["backend"], "environments": ["staging"]}, "backend", "staging", True),
    ],
)
def test_affected_services(whom: dict[str, Any], service: str, environment: str, holds: bool) -> None:
    freeze = Freeze.model_validate({"name": "always", "time_intervals": [{"weekdays": ["friday"]}, {}], **whom})
    assert freeze.holds(service, environment, datetime(2026, 11, 28, tzinfo=UTC)) is holds

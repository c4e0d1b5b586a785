"""Times in tables have the same zone as times in reasons, and name it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from responder.cli.display.terminal import clock


@pytest.fixture(autouse=True)
def _far_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "XST-11")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_a_time_names_its_zone() -> None:
    assert clock("2020-11-23T22:34:00+00:00") == "2020-11-23 22:34:00 UTC"
    assert clock("2020-11-24T09:34:00+11:00") == "2020-11-23 22:34:00 UTC"
    assert clock(None) == "-"


def test_a_time_of_today_needs_no_date() -> None:
    for when in (datetime.now(UTC), datetime.now(UTC) - timedelta(seconds=1)):
        if when.date() == datetime.now(UTC).date():
            assert clock(when.isoformat()) == f"{when:%H:%M:%S} UTC"

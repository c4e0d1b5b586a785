"""Durations have the same meaning as in Prometheus, and a bare number is rejected."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from foundation.durations import Duration, format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("250ms", 0.25),
        ("1d", 86400.0),
        ("1w", 604800.0),
        ("1y", 31536000.0),
        ("1y2w3d4h5m6s7ms", 31536000 + 2 * 604800 + 3 * 86400 + 4 * 3600 + 300 + 6 + 0.007),
        ("90m", 5400.0),
        ("0", 0.0),
        (0, 0.0),
        ("0s", 0.0),
    ],
)
def test_reads_what_prometheus_reads(text: object, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["", "5", "s", "1.5h", "-5s", " 5s", "5s ", "5s\n", "1m1h", "5s5s", "5 s", "5S", "5sec", "1h30", "ms", "\u0661s"],
)
def test_rejects_what_prometheus_rejects(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration such as 30s, 5m or 1h30m"):
        parse_duration(text)


@pytest.mark.parametrize("value", [5, 30.0, None, True, False, [], {}, b"5s"])
def test_a_value_without_a_unit_is_rejected(value: object) -> None:
    with pytest.raises(ValueError, match="a duration needs a unit, such as 30s or 5m"):
        parse_duration(value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"),
        (0.25, "250ms"),
        (30.0, "30s"),
        (90.0, "1m30s"),
        (5400.0, "1h30m"),
        (86400.0, "1d"),
        (604800.0, "7d"),
        (90061.5, "1d1h1m1s500ms"),
    ],
)
def test_writes_the_shortest_form(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(min_value=0, max_value=10**12))
def test_a_written_duration_is_read_back_to_the_millisecond(milliseconds: int) -> None:
    assert round(parse_duration(format_duration(milliseconds / 1000)) * 1000) == milliseconds


class _Holder(BaseModel):
    wait: Duration


def test_a_duration_is_text_in_yaml_and_seconds_in_the_code() -> None:
    assert _Holder.model_validate_json('{"wait": "5m"}').wait == 300.0
    assert _Holder(wait=300.0).wait == 300.0
    assert _Holder(wait=300.0).model_dump_json() == '{"wait":"5m"}'


@pytest.mark.parametrize(
    "text", ['{"wait": 30}', '{"wait": 30.0}', '{"wait": true}', '{"wait": false}', '{"wait": null}']
)
def test_a_bare_number_in_yaml_is_rejected(text: str) -> None:
    with pytest.raises(ValidationError, match="needs a unit"):
        _Holder.model_validate_json(text)

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters.durations import parse, written


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("1m30s", 90), ("500ms", 0.5), ("1s500ms", 1.5), ("1d", 86400), ("1w", 604800), ("1h5m", 3900)],
)
def test_reads_what_prometheus_reads(text: str, seconds: float) -> None:
    assert parse(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "s", "1.5s", "-1s", "30s1m", "1s 5ms", "0s", 30, True, None, "1 s", "5S"])
def test_refuses_everything_else(text: object) -> None:
    with pytest.raises(ValueError, match=r"duration|longer than zero"):
        parse(text)


@given(st.integers(1, 10**10))
def test_what_is_written_is_read_again(milliseconds: int) -> None:
    assert parse(written(milliseconds / 1000)) == milliseconds / 1000

from __future__ import annotations

import pytest

from exporters.probes.statuses import status_matches


@pytest.mark.parametrize(
    ("status", "expected", "yes"),
    [
        (200, ("2xx",), True),
        (299, ("2xx",), True),
        (300, ("2xx",), False),
        (404, ("2xx", "404"), True),
        (204, ("200",), False),
    ],
)
def test_a_status_matches_its_patterns(status: int, expected: tuple[str, ...], yes: bool) -> None:
    assert status_matches(status, expected) is yes

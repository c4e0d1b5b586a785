from __future__ import annotations

import pytest

from exporters.probes.json_path import pick, steps

DOCUMENT = {"status": "ok", "checks": [{"ms": 12}, {"ms": None}], "a b": {"c.d": 1}}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("status", "ok"),
        ("$.status", "ok"),
        ("checks[0].ms", 12),
        ("$.checks[1].ms", None),
        ('["a b"]["c.d"]', 1),
        ("$", DOCUMENT),
    ],
)
def test_a_path_selects_a_value(path: str, value: object) -> None:
    assert pick(DOCUMENT, path) == value


@pytest.mark.parametrize(
    ("path", "step"), [("nope", "nope"), ("checks[2]", "2"), ("status.x", "x"), ("checks.ms", "ms"), ("status[0]", "0")]
)
def test_the_missing_step_is_named(path: str, step: str) -> None:
    with pytest.raises(LookupError, match=f"{step}"):
        pick(DOCUMENT, path)


@pytest.mark.parametrize("path", ["a..b", "a[", "a[-1]", "a b", ".a", "a[x]", "$a b", "a]", "a."])
def test_an_invalid_path_is_rejected(path: str) -> None:
    with pytest.raises(ValueError, match="is not a path"):
        steps(path)

"""The comparison of two states names every difference by its path."""

from __future__ import annotations

from typing import Any

import pytest

from responder.testing.comparison import differences, expect_unchanged


@pytest.mark.parametrize(
    ("before", "after", "paths"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, ["/a"]),
        ({"a": {"b": 1}}, {"a": {"b": 1, "c": False}}, ["/a/c"]),
        ({"a": {"b": 0}}, {"a": {}}, ["/a/b"]),
        ({"a": {"b": 1}}, {}, ["/a/b"]),
        ({"a": {}}, {"a": None}, []),
        ({"a": {}}, {"a": 0}, ["/a"]),
        ({"a": {"x/y": 1, "m~n": 1}}, {}, ["/a/m~0n", "/a/x~1y"]),
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}, ["/a/1/b"]),
        ({"a": [1]}, {"a": [1, 2]}, ["/a"]),
        ({"a": "x"}, {"a": {"b": 1}}, ["/a"]),
        ("1", "2", ["/"]),
    ],
)
def test_differences(before: Any, after: Any, paths: list[str]) -> None:
    assert [path for path, _ in differences(before, after, {})] == paths
    assert [path for path, _ in differences(after, before, {})] == paths


def test_what_may_differ_is_left_out_with_all_below_it() -> None:
    may_differ = {"*/status": "the controllers write it", "/web/metadata/generation": "counts changes"}
    before = {"web": {"metadata": {"generation": 1}, "status": {"ready": 1}}}
    expect_unchanged(before, {"web": {"metadata": {"generation": 2}}}, "after a rollback", may_differ)
    with pytest.raises(AssertionError, match="after a rollback the outside differs:\n/web/spec: None → 1"):
        expect_unchanged(before, {"web": {"spec": 1}}, "after a rollback", {**may_differ, "*/metadata": "a test"})

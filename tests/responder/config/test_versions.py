"""Ranges of versions."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from responder.config.versions import Range, within


@pytest.mark.parametrize(
    ("version", "versions", "fits"),
    [
        ("2.1", ">=2.1", True),
        ("2.1.0", ">=2.1", True),
        ("v2.1", ">=2.1", True),
        ("2.0.9", ">=2.1", False),
        ("2.1.0-rc.1", ">=2.1", False),
        ("2.2.0-rc.1", ">=2.1", True),
        ("3.0", ">=2.1,<3", False),
        ("2.10", ">=2.9", True),
        ("7f3c2d1", ">=2.1", None),
    ],
)
def test_within(version: str, versions: str, fits: bool | None) -> None:
    assert within(version, versions) is fits


@pytest.mark.parametrize("text", ["2.1", "above 2", "=>2"])
def test_invalid_ranges(text: str) -> None:
    with pytest.raises(ValidationError, match="is not a version range such as"):
        TypeAdapter(Range).validate_python(text)

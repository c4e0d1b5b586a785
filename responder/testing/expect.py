"""Assertions with messages, for suites that run under any test runner."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


def expect(holds: bool, law: str) -> None:
    """Raises AssertionError with the law unless it holds."""
    if not holds:
        raise AssertionError(law)


@contextmanager
def expect_error(kind: type[Exception], law: str) -> Iterator[list[Exception]]:
    """Raises AssertionError with the law unless the body raises an error of that kind. Yields a list for the error."""
    caught: list[Exception] = []
    try:
        yield caught
    except kind as e:
        caught.append(e)
    else:
        raise AssertionError(law)

"""The law of everything else: a rollback changes only the version, and its revert leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from responder.testing.expect import expect

_NOTHING: tuple[Any, ...] = (None, {}, [], "")


def expect_unchanged(before: Any, after: Any, moment: str, may_differ: Mapping[str, str] | None = None) -> None:
    """Raises AssertionError with every difference between two states of an outside system.

    `may_differ`: patterns of paths such as `/web/metadata/generation` or `*/status`, each with the reason.
    """
    found = [f"{path}: {difference}" for path, difference in differences(before, after, may_differ or {})]
    expect(not found, f"{moment} the outside differs:\n" + "\n".join(found))


def differences(before: Any, after: Any, may_differ: Mapping[str, str], path: str = "") -> Iterator[tuple[str, str]]:
    """The path and the two values of every difference. A missing value equals an empty one."""
    if before == after or (before in _NOTHING and after in _NOTHING):
        return
    if any(covers(pattern, path) for pattern in may_differ):
        return
    keys = _keys(before, after)
    if keys is None:
        yield path or "/", f"{before!r} → {after!r}"
        return
    for key in keys:
        part = f"{path}/{str(key).replace('~', '~0').replace('/', '~1')}"
        yield from differences(_at(before, key), _at(after, key), may_differ, part)


def covers(pattern: str, path: str) -> bool:
    """Whether the pattern names the path or something that contains it. `*` stands for any text, also for `/`."""
    return fnmatchcase(path, pattern) or fnmatchcase(path, f"{pattern}/*")


def _keys(before: Any, after: Any) -> list[Any] | None:
    """The keys of two mappings, or the numbers of two lists of one length; None for anything else."""
    mappings = [{} if value in _NOTHING else value for value in (before, after)]
    if all(isinstance(value, Mapping) for value in mappings):
        return sorted({**mappings[0], **mappings[1]}, key=str)
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return list(range(len(before)))
    return None


def _at(value: Any, key: Any) -> Any:
    if isinstance(value, list):
        return value[key]
    return (value or {}).get(key)

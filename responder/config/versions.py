"""Version ranges such as `>=2.1,<3`, as defined by PEP 440."""

from __future__ import annotations

from typing import Annotated

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version
from pydantic import AfterValidator


def _range(text: str) -> str:
    try:
        return str(SpecifierSet(text))
    except InvalidSpecifier:
        raise ValueError(f"{text!r} is not a version range such as >=2.1,<3") from None


Range = Annotated[str, AfterValidator(_range)]
"""PEP 440 specifiers. A version must satisfy all of them."""


def within(version: str, versions: str) -> bool | None:
    """Returns whether a version is in the range. None if it has no order, such as a commit hash."""
    try:
        return Version(version) in SpecifierSet(versions, prereleases=True)
    except InvalidVersion:
        return None


def is_newer(version: str, other: str) -> bool | None:
    """Returns whether a version is newer than another. None if one of them has no order."""
    try:
        return Version(version) > Version(other)
    except InvalidVersion:
        return None

"""Which versions of another service a version works with, in the words of Python's packages: `>=2.1,<3`."""

from __future__ import annotations

from typing import Annotated

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version
from pydantic import AfterValidator


def _range(text: str) -> str:
    try:
        return str(SpecifierSet(text))
    except InvalidSpecifier:
        raise ValueError(f"{text!r} is not a range of versions such as >=2.1,<3") from None


Range = Annotated[str, AfterValidator(_range)]
"""Specifiers of PEP 440, all of which must hold."""


def within(version: str, versions: str) -> bool | None:
    """Whether a version is in the range; None where it is no version that has an order, as a commit's hash."""
    try:
        return Version(version) in SpecifierSet(versions, prereleases=True)
    except InvalidVersion:
        return None


def is_newer(version: str, other: str) -> bool | None:
    """Whether a version is newer than another; None where one of them is no version that has an order."""
    try:
        return Version(version) > Version(other)
    except InvalidVersion:
        return None

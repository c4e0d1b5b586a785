"""Texts that contain a version, such as `/releases/2.1` or `{"version": "2.1"}`."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, JsonValue

from responder.backends.problems import Problem
from responder.errors import StepFailed

_PLACEHOLDER = "{version}"


def _has_one_placeholder(text: str) -> str:
    if text.count(_PLACEHOLDER) != 1:
        raise ValueError(f"{text!r} must contain {_PLACEHOLDER} exactly once")
    return text


VersionText = Annotated[str, AfterValidator(_has_one_placeholder)]


def text_for(pattern: str, version: JsonValue) -> str:
    """Returns the text for a version. Raises StepFailed for a value that could point outside the releases."""
    if not isinstance(version, str) or not version or {"/", '"', "\n"} & set(version) or version in (".", ".."):
        raise StepFailed(f"{version!r} is not a valid version for a pointer")
    return pattern.replace(_PLACEHOLDER, version)


def require_short(text: str, most: int, what: object) -> None:
    """Raises StepFailed if the provider would refuse a text as too long. `most`: bytes."""
    if (size := len(text.encode())) > most:
        raise StepFailed(f"the {what} cannot be set to {text[:40]!r}…: it has {size} bytes, expected at most {most}")


def version_in(pattern: str, text: str) -> str:
    """Returns the version in a text; `other: ` and the text if it does not match the pattern."""
    before, _, after = pattern.partition(_PLACEHOLDER)
    if text.startswith(before) and text.endswith(after) and len(text) > len(before) + len(after):
        found = text[len(before) : len(text) - len(after)]
        if "/" not in found:
            return found
    return f"other: {text}"


def pointer_problems(pointer: str, found: JsonValue, pattern: str) -> list[Problem]:
    """Returns problems of a pointer whose text should match the pattern."""
    fix = f"write {pattern}"
    if found is None:
        return [Problem(pointer, "does not exist", f"{fix}, with the live version")]
    if str(found).startswith("other: "):
        return [Problem(pointer, f"contains {str(found)[7:87]!r}, which names no version", fix)]
    return []

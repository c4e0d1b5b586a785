"""A version as it stands in a pointer's text, as `/releases/2.1` or `{"version": "2.1"}`."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, JsonValue

from responder.backends.problems import Problem
from responder.errors import StepFailed

_HERE = "{version}"


def _names_it_once(text: str) -> str:
    if text.count(_HERE) != 1:
        raise ValueError(f"{text!r} must have {_HERE} in it, once")
    return text


VersionText = Annotated[str, AfterValidator(_names_it_once)]


def text_for(pattern: str, version: JsonValue) -> str:
    """Raises Halt where that is no version: a pointer is never made to point outside the releases."""
    if not isinstance(version, str) or not version or {"/", '"', "\n"} & set(version) or version in (".", ".."):
        raise StepFailed(f"{version!r} is no version that a pointer can name")
    return pattern.replace(_HERE, version)


def version_in(pattern: str, text: str) -> str:
    """The version that the text names; where it is nothing of ours, all of it, told so that no version is like it."""
    before, _, after = pattern.partition(_HERE)
    if text.startswith(before) and text.endswith(after) and len(text) > len(before) + len(after):
        found = text[len(before) : len(text) - len(after)]
        if "/" not in found:
            return found
    return f"other: {text}"


def pointer_problems(pointer: str, found: JsonValue, pattern: str) -> list[Problem]:
    """What is wrong with a pointer that was read by this pattern."""
    fix = f"let it say {pattern}"
    if found is None:
        return [Problem(pointer, "does not exist", f"{fix}, with the version that is live")]
    if str(found).startswith("other: "):
        return [Problem(pointer, f"says {str(found)[7:87]!r}, which names no version", fix)]
    return []

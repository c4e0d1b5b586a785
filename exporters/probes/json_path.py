"""Paths to one value in a JSON document, such as `$.checks[0].ms`."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

STEP = re.compile(r"\.?([A-Za-z_][\w-]*)|\[([0-9]+)\]|\[\"([^\"]+)\"\]")


def steps(path: str) -> tuple[str | int, ...]:
    """Returns ("checks", 0, "ms") for `$.checks[0].ms`. Raises ValueError.

    The leading `$.` is optional. Keys with other characters are written `["a b"]`.
    """
    remaining, found = path.removeprefix("$"), list[str | int]()
    while remaining:
        match = STEP.match(remaining)
        rest = remaining[match.end() :] if match else ""
        no_dollar = not found and remaining.startswith(".") and not path.startswith("$")
        if match is None or no_dollar or (rest and rest[0] not in ".["):
            at = remaining if match is None or no_dollar else rest
            raise ValueError(f"is not a path: {path!r} cannot be read from {at!r}; write it as status or checks[0].ms")
        name, index, quoted = match.groups()
        found.append(int(index) if index is not None else name or quoted)
        remaining = rest
    return tuple(found)


def pick(document: object, path: str) -> object:
    """Returns the value at that path. Raises LookupError with the first step that does not exist."""
    value = document
    for step in steps(path):
        match value, step:
            case dict(), str() if step in value:
                value = value[step]
            case list(), int() if step < len(value):
                value = value[step]
            case _:
                raise LookupError(f"{path} is missing: no {step!r} in {type(value).__name__}")
    return value


def _checked(path: str) -> str:
    steps(path)
    return path


JsonPath = Annotated[str, AfterValidator(_checked)]

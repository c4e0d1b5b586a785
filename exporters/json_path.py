"""Points at one value inside a JSON document, or says exactly which step of the way is missing."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

STEP = re.compile(r"\.?([A-Za-z_][\w-]*)|\[(\d+)\]|\[\"([^\"]+)\"\]")


def steps(path: str) -> tuple[str | int, ...]:
    """`$.checks[0].ms` as ("checks", 0, "ms"); the leading `$.` may be left out, odd keys go in `["a b"]`."""
    remaining, found = path.removeprefix("$"), list[str | int]()
    while remaining:
        match = STEP.match(remaining)
        if match is None or (not found and remaining.startswith(".") and not path.startswith("$")):
            raise ValueError(
                f"is not a path: {path!r} cannot be read from {remaining!r}; write it as status or checks[0].ms"
            )
        name, index, odd = match.groups()
        found.append(int(index) if index is not None else name or odd)
        remaining = remaining[match.end() :]
        if remaining and remaining[0] not in ".[":
            raise ValueError(
                f"is not a path: {path!r} cannot be read from {remaining!r}; write it as status or checks[0].ms"
            )
    return tuple(found)


def pick(document: object, path: str) -> object:
    """The value at that path; LookupError names the first step that does not exist."""
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

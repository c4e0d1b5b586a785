"""Type changes that preserve every value."""

from __future__ import annotations

import re

_WIDER = {
    "smallint": ("integer", "bigint", "numeric"),
    "integer": ("bigint", "numeric"),
    "bigint": ("numeric",),
    "real": ("double precision",),
}
_SYNONYMS = {"int": "integer", "int4": "integer", "int8": "bigint", "int2": "smallint", "decimal": "numeric"}


def widens(old: str, new: str) -> bool:
    """Whether the new type can hold every value of the old type."""
    to = _SYNONYMS.get(new.lower(), new.lower()).replace("varchar", "character varying")
    if to == old or (to in ("text", "character varying") and old.startswith(("character varying", "text"))):
        return True
    lengths = [re.fullmatch(r"character varying\((\d+)\)", name) for name in (old, to)]
    if lengths[0] and lengths[1]:
        return int(lengths[0][1]) <= int(lengths[1][1])
    return to in _WIDER.get(old, ())

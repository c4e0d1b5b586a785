"""Everything that a stand-in holds: its attributes, and those of the objects in them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any


def attributes(server: Any, *, without: Collection[str] = ()) -> dict[str, Any]:
    """Every attribute with data. `without`: names of attributes that record requests, or that only the test uses."""
    return {name: _shown(value, without) for name, value in vars(server).items() if not _hidden(name, value, without)}


def _hidden(name: str, value: Any, without: Collection[str]) -> bool:
    return name in without or callable(value)


def _shown(value: Any, without: Collection[str]) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _shown(item, without) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(item, without) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    return attributes(value, without=without) if hasattr(value, "__dict__") else value

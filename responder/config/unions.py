"""Unions of models: a mapping belongs to the model whose own key it has."""

from __future__ import annotations

from typing import Any

from pydantic import Discriminator


def union_by_key(what: str, *keys: str, plain: type | None = None) -> Discriminator:
    """Returns the discriminator of a union whose members have the tags `<key>`. The error names all keys.

    `plain`: a type that is also a member, with its name as its tag.
    """

    def which(value: Any) -> str | None:
        if plain is not None and isinstance(value, plain):
            return f"<{plain.__name__}>"
        has_key = value.__contains__ if isinstance(value, dict) else lambda key: hasattr(value, key)
        return next((f"<{key}>" for key in keys if has_key(key)), None)

    return Discriminator(
        which, custom_error_type=what, custom_error_message=f"a {what} has one of the keys {', '.join(keys)}"
    )

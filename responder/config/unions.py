"""Which of several models a mapping means is told by the one key that only this model has."""

from __future__ import annotations

from typing import Any

from pydantic import Discriminator


def union_by_key(what: str, *keys: str, plain: type | None = None) -> Discriminator:
    """For a union whose members are tagged `<key>`. Where none of the keys is there, the mistake names all of them.

    `plain`: a type that may stand there too, tagged `<its name>`.
    """

    def which(value: Any) -> str | None:
        if plain is not None and isinstance(value, plain):
            return f"<{plain.__name__}>"
        has_key = value.__contains__ if isinstance(value, dict) else lambda key: hasattr(value, key)
        return next((f"<{key}>" for key in keys if has_key(key)), None)

    return Discriminator(
        which, custom_error_type=what, custom_error_message=f"a {what} has one of the keys {', '.join(keys)}"
    )

"""The bases of models."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class FrozenModel(BaseModel):
    """A model that cannot be changed. Unknown keys are ignored."""

    model_config = ConfigDict(frozen=True)


class StrictModel(FrozenModel):
    """A model that cannot be changed. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid")


def exactly_one(model: BaseModel, *keys: str) -> str:
    """The one of these fields that is set. Raises ValueError if none or several are."""
    chosen = [key for key in keys if getattr(model, key) is not None]
    if len(chosen) != 1:
        raise ValueError(f"needs exactly one of {', '.join(keys)}")
    return chosen[0]

"""The base of models that users or the journal write: frozen, and strict about keys."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class StrictModel(BaseModel):
    """A frozen model. Unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

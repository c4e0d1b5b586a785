"""What a check saw, and whether that is well."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Finding(BaseModel):
    """What a check saw. `reason` is a sentence that an engineer can act on, also where it holds."""

    model_config = ConfigDict(frozen=True)

    holds: bool
    reason: str
    answered: bool = True  # False where nobody could say; then it does not hold, and nothing is known to be wrong

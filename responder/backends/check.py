"""The interface of a check: one condition of a gate."""

from __future__ import annotations

from abc import abstractmethod
from typing import Generic

from foundation.models import FrozenModel
from responder.backends.accessible import Accessible, C


class Finding(FrozenModel):
    """The result of one check. `reason` is a sentence for an engineer, also if the check holds."""

    holds: bool
    reason: str
    answered: bool = True  # False: the state is unknown. The check does not hold, but nothing is known to be wrong


class Check(Accessible[C], Generic[C]):
    """A condition on an outside system. Missing data never holds."""

    @abstractmethod
    async def holds(self, client: C) -> Finding:
        """Returns whether the condition holds now. Raises StepFailed and Unavailable if nothing answers."""

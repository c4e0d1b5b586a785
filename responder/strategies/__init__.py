"""The table of strategies. Adding one adds a file here and a line below."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import BaseModel, Field

from responder.levers.lever import Lever
from responder.strategies.blue_green import BlueGreen
from responder.strategies.frontend import Frontend
from responder.strategies.immediate import Immediate
from responder.strategies.rolling import Rolling
from responder.strategies.strategy import Target

__all__ = ["AnyStrategy", "Target", "levers_of"]

AnyStrategy = Annotated[Immediate | Rolling | BlueGreen | Frontend, Field(discriminator="strategy")]
"""Every strategy, told apart by `strategy`."""


def levers_of(model: BaseModel) -> Iterator[Lever]:
    """Every lever that a strategy's configuration names, however deep, so that all of them can be tried beforehand."""
    for value in dict(model).values():
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, Lever):
                yield one
            elif isinstance(one, BaseModel):
                yield from levers_of(one)

"""The table of strategies. Adding one adds a file here and a line below."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import BaseModel, Field

from responder.backends.check import Check
from responder.backends.resource import Resource
from responder.rollback.strategies.blue_green import BlueGreen
from responder.rollback.strategies.database_migration import DatabaseMigration
from responder.rollback.strategies.frontend import Frontend
from responder.rollback.strategies.immediate import Immediate
from responder.rollback.strategies.rolling import Rolling

__all__ = ["AnyStrategy", "checks_of", "resources_of"]

AnyStrategy = Annotated[Immediate | Rolling | BlueGreen | Frontend | DatabaseMigration, Field(discriminator="strategy")]
"""Every strategy, told apart by `strategy`."""


def checks_of(model: BaseModel) -> Iterator[Check]:
    """Every check that a strategy's configuration names, however deep."""
    for value in dict(model).values():
        for item in value if isinstance(value, tuple) else value.values() if isinstance(value, dict) else (value,):
            if isinstance(item, Check):
                yield item
            elif isinstance(item, BaseModel):
                yield from checks_of(item)


def resources_of(model: BaseModel) -> Iterator[Resource]:
    """Every resource that a strategy's configuration names, at any depth, so that all can be checked beforehand."""
    for value in dict(model).values():
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, Resource):
                yield item
            elif isinstance(item, BaseModel):
                yield from resources_of(item)

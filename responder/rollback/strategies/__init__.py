"""Strategies by name. To add one, write its module and add one line here.

Other distributions add entry points of the group `rollback_responder.strategies`. It may import `backends` and below.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BaseModel

from foundation.registry import Registry
from responder.backends.check import Check
from responder.backends.resource import Resource
from responder.rollback.strategies.strategy import Strategy

STRATEGIES: Registry[Strategy] = Registry(
    "strategy",
    group="rollback_responder.strategies",
    tag="strategy",
    builtin={
        "immediate": "responder.rollback.strategies.immediate:Immediate",
        "rolling": "responder.rollback.strategies.rolling:Rolling",
        "blue_green": "responder.rollback.strategies.blue_green:BlueGreen",
        "frontend": "responder.rollback.strategies.frontend:Frontend",
        "database_migration": "responder.rollback.strategies.database_migration:DatabaseMigration",
    },
)
AnyStrategy = Annotated[Strategy, STRATEGIES]
"""A strategy in a configuration, selected by its key `strategy`."""


def checks_of(model: BaseModel) -> Iterator[Check]:
    """Every check that a strategy's configuration names, at any depth."""
    return (value for value in _values(model) if isinstance(value, Check))


def resources_of(model: BaseModel) -> Iterator[Resource[Any]]:
    """Every resource that a strategy's configuration names, at any depth."""
    return (value for value in _values(model) if isinstance(value, Resource))


def _values(value: Any) -> Iterator[Any]:
    """The value and all nested values of models, lists and mappings. Does not descend into resources and checks."""
    yield value
    if isinstance(value, Resource | Check):
        return
    if isinstance(value, BaseModel):
        value = dict(value)
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, tuple):
        for item in value:
            yield from _values(item)

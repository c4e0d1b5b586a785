"""The words for what a statement of a migration does."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from responder.backends.postgres.sql import Name

Does = Literal[
    "nothing lossy",
    "drops columns",
    "drops a table",
    "drops a type",
    "drops a sequence",
    "deletes rows",
    "updates rows",
    "changes a type",
    "adds a column",
    "creates a table",
    "renames",
    "begins or commits",
    "sets a limit",
    "unknown",
]

LOSSY: tuple[Does, ...] = (
    "drops columns",
    "drops a table",
    "deletes rows",
    "updates rows",
    "changes a type",
    "unknown",
)


class Effect(BaseModel):
    """One thing that a statement does."""

    model_config = ConfigDict(frozen=True)

    does: Does
    on: Name | None = None
    columns: tuple[str, ...] = ()
    where: str = ""  # of DELETE and UPDATE; empty means all rows
    to: str = ""  # the new type, or the new name
    using: bool = False  # the values of the new type come from an expression
    cascade: bool = False
    if_exists: bool = False
    only: bool = False  # not the rows of heirs
    why: str = ""  # it is unknown


class Statement(BaseModel):
    """One statement, its text as it was written."""

    model_config = ConfigDict(frozen=True)

    sql: str
    effects: tuple[Effect, ...] = ()
    alone: bool = False  # cannot be part of a transaction
    index: str = ""  # that it creates concurrently

    @property
    def lossy(self) -> bool:
        return any(effect.does in LOSSY for effect in self.effects)

    @property
    def limit(self) -> bool:
        """It sets how long a session may wait and work, which is up to us."""
        return any(effect.does == "sets a limit" for effect in self.effects)

    @property
    def unknown(self) -> str:
        return next((effect.why for effect in self.effects if effect.does == "unknown"), "")

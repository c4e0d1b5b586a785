"""The effects of a SQL statement."""

from __future__ import annotations

import re
from typing import Literal

from foundation.models import FrozenModel
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
    "adds a constraint",
    "creates a table",
    "renames",
    "begins or commits",
    "sets a limit",
    "sets the search path",
    "unknown",
]


class Effect(FrozenModel):
    """One effect of a statement."""

    does: Does
    on: Name | None = None
    columns: tuple[str, ...] = ()
    where: str = ""  # condition of DELETE and UPDATE; empty: all rows
    to: str = ""  # the new type or name
    schema_name: str = ""  # the new schema
    using: bool = False  # ALTER TYPE computes the new values by an expression
    cascade: bool = False
    if_exists: bool = False
    only: bool = False  # excludes the rows of child tables
    reason: str = ""  # why the effect is unknown


class Statement(FrozenModel):
    """One statement with its effects."""

    sql: str
    effects: tuple[Effect, ...] = ()
    standalone: bool = False  # cannot run in a transaction
    index: str = ""  # the index that it creates concurrently

    @property
    def adds_enum_value(self) -> bool:
        """Whether it adds a value to an enum type. PostgreSQL lets no statement use it before a COMMIT."""
        return re.match(r"ALTER\s+TYPE\s.*\sADD\s+VALUE\b", self.sql, re.I | re.S) is not None

    @property
    def sets_search_path(self) -> bool:
        """Whether it decides in which schemas the names without one are."""
        return any(effect.does == "sets the search path" for effect in self.effects)

    @property
    def sets_limit(self) -> bool:
        """Whether it changes a timeout of the session. The responder sets those itself."""
        return any(effect.does == "sets a limit" for effect in self.effects)

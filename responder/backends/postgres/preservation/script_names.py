"""Follows names through a script. A statement uses the current names; the catalogs contain the original ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from responder.backends.postgres.ddl.effects import Effect
from responder.backends.postgres.sql import Name

_CHANGES = ("drops columns", "updates rows", "changes a type", "renames", "adds a column")


class Naming(NamedTuple):
    """A table at one moment: its name, and by their original names its renamed columns and those of another type now.

    The type is empty if it was the original one at that moment.
    """

    table: str
    columns: Mapping[str, str]
    types: Mapping[str, str]


class ScriptNames:
    """The names of tables and columns before the script (original) and at its present statement (current)."""

    def __init__(self) -> None:
        self.created: set[str] = set()  # tables that the script created
        self.added: set[tuple[str, str]] = set()  # columns that it added
        self.dropped: set[tuple[str, str]] = set()  # original columns that it dropped
        self.retyped: dict[tuple[str, str], str] = {}  # the types that it gave to original columns
        self.changed: set[str] = set()  # tables whose rows it may have changed
        self._tables: dict[str, str] = {}  # current name → original name
        self._columns: dict[tuple[str, str], str] = {}  # current (table, column) → original column
        self.begin_step()

    def begin_step(self) -> None:
        """Call it before the first statement of each step."""
        self._step = dict(self._tables), dict(self._columns), dict(self.retyped)

    def at_script_start(self, table: Name) -> Naming:
        """The table with this current name, before the script."""
        return Naming(self.original(table), {}, self._types(self.original(table), {}))

    def at_step_start(self, table: Name | str) -> Naming:
        """The table with this current name, before the present step: also after the step was reverted."""
        original = self.original(table)
        tables, columns, types = self._step
        name = next((current for current, first in tables.items() if first == original), original)
        return Naming(
            name,
            {first: current for (owner, current), first in columns.items() if owner == name},
            self._types(original, types),
        )

    def _types(self, original: str, then: Mapping[tuple[str, str], str]) -> dict[str, str]:
        return {column: then.get((owner, column), "") for owner, column in self.retyped if owner == original}

    def original(self, table: Name | str) -> str:
        """The original name of a table."""
        return self._tables.get(str(table), str(table))

    def current(self, table: Name) -> str:
        """The current name of a table with this original name."""
        return next((current for current, original in self._tables.items() if original == str(table)), str(table))

    def original_column(self, table: Name, column: str) -> str:
        """The original name of a column."""
        return self._columns.get((str(table), column), column)

    def current_columns(self, table: Name) -> dict[str, str]:
        """The current names of the renamed columns of a table, by their original names."""
        return {original: current for (name, current), original in self._columns.items() if name == str(table)}

    def has_created(self, table: Name) -> bool:
        return str(table) in self.created

    def mark_changed(self, effect: Effect) -> None:
        """Records that the following statements may see other rows than now."""
        if effect.on and effect.does in _CHANGES:
            self.changed.add(str(effect.on))

    def follow(self, effect: Effect) -> None:
        """Records a new table, a new column or a new name."""
        if effect.on is None:
            return
        table = str(effect.on)
        if effect.does == "creates a table":
            self.created.add(table)
        elif effect.does == "adds a column":
            self.added |= {(table, column) for column in effect.columns}
        elif effect.does == "renames" and effect.columns:
            self._rename_column(table, effect.columns[0], effect.to)
        elif effect.does == "renames":
            self._rename_table(table, str(Name(effect.to, effect.schema_name or effect.on.schema)))

    def _rename_column(self, table: str, column: str, new: str) -> None:
        self._columns[table, new] = self._columns.pop((table, column), column)
        self.added.discard((table, new))
        if (table, column) in self.added:
            self.added.remove((table, column))
            self.added.add((table, new))

    def _rename_table(self, table: str, new: str) -> None:
        self._tables[new] = self._tables.pop(table, table)
        self._columns.update({(new, c): original for (t, c), original in self._columns.items() if t == table})
        self.changed |= {new} if table in self.changed else set()
        moved = {(new, c) for t, c in self.added if t == table}
        self.added = {(t, c) for t, c in self.added if t not in (table, new)} | moved
        self.created.discard(new)
        if table in self.created:
            self.created.remove(table)
            self.created.add(new)

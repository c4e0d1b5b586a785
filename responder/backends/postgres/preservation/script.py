"""A migration script with the commands that preserve data, and the state while it is written."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from responder.backends.postgres.catalog import Table
from responder.backends.postgres.ddl.effects import Effect
from responder.backends.postgres.migration_path import Command
from responder.backends.postgres.preservation.script_names import ScriptNames
from responder.backends.postgres.preservation.side_schema import SideSchema
from responder.backends.postgres.readers import Removed
from responder.backends.postgres.sql import Name, literal

Lookup = Callable[[str, tuple[str, ...] | None], Awaitable[Table | None]]
"""Reads a table from the catalogs, with the views that depend on these columns; on any column for None."""


@dataclass(frozen=True)
class Loss:
    """Data that leaves the live tables."""

    description: str  # stable wording: the approval refers to it
    count_sql: str = ""  # counts the data now; empty if it cannot be counted
    preserved: bool = True
    restorable: bool = True  # the recorded SQL restores it
    unit: Literal["row", "value"] = "row"  # what is counted

    def size(self, count: int | None) -> str:
        """The count with its unit, such as `18 rows now`."""
        return "not counted" if count is None else f"{count} {self.unit}{'' if count == 1 else 's'} now"


@dataclass(frozen=True)
class Violation:
    """Existing rows, or values in several rows, that violate a constraint of the script."""

    unit: str  # `row` or `repeated value`
    description: str
    count_sql: str

    def refusal(self, count: int) -> str:
        """Why the script would fail."""
        return f"{count} {self.unit}{'' if count == 1 else 's'} {self.description}"


@dataclass
class PreservedScript:
    """A script that preserves what it destroys."""

    commands: list[Command] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)  # why a loss cannot be ruled out
    notes: list[str] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)  # to be counted: the script fails if there are any
    removed: list[Removed] = field(default_factory=list)
    tables: set[str] = field(default_factory=set)  # tables that it locks


Query = Callable[[str], Awaitable[list[dict[str, Any]]]]
"""Reads rows from the catalogs."""


class ScriptState:
    """What the preservers of tables, columns and rows share."""

    def __init__(self, lookup: Lookup, query: Query, execution: str, *, preserve: bool) -> None:
        self.lookup, self.query, self.preserve = lookup, query, preserve
        self.names = ScriptNames()
        self.script = PreservedScript()
        self.side = SideSchema(execution, self.script.commands, self.names)
        self.touched: dict[str, str] = {}  # current name of a table → original name
        self.dropped: set[str] = set()  # original tables that earlier statements dropped

    async def table(self, name: Name, columns: tuple[str, ...] | None = None) -> Table | None:
        """The table in the catalogs. None if it does not exist, is not a table, or was created by the script."""
        if self.names.has_created(name):
            return None
        original_columns = None if columns is None else tuple(self.names.original_column(name, c) for c in columns)
        table = await self.lookup(self.names.original(name), original_columns)
        if table is None:
            return None
        if table.kind not in ("r", "p"):
            self.script.unknown.append(f"{name} is not a table: its rows are elsewhere and cannot be preserved")
            return None
        self.touched[str(name)] = self.names.original(name)
        self.script.tables.add(self.touched[str(name)])
        return table

    def note_missing(self, effect: Effect, name: Name) -> None:
        if not self.names.has_created(name) and not effect.if_exists:
            self.script.unknown.append(f"table {name} does not exist: the loss cannot be determined")

    def note_triggers(self, table: Table, name: Name) -> None:
        if table.triggers:
            note = f"triggers of {name} fire and may change other data: {', '.join(table.triggers)}"
            if note not in self.script.notes:
                self.script.notes.append(note)

    def note_silenced(self, table: Table, name: Name) -> None:
        """Notes the triggers that do not fire when the preserved data of the table is restored."""
        note = f"triggers of {name} do not fire while its data is restored: {', '.join(table.triggers)}"
        if self.preserve and table.triggers and note not in self.script.notes:
            self.script.notes.append(note)

    def note_views(self, effect: Effect, table: Table, changed: str) -> None:
        """Records views that CASCADE drops; notes views that block the statement."""
        for view, kind in table.views:
            word = "materialized view" if kind == "m" else "view"
            if not effect.cascade:
                note = f"the {word} {view} depends on {changed}: PostgreSQL rejects the statement while it exists"
                self.script.notes.append(note)
                continue
            self.script.losses.append(Loss(f"drops the {word} {view} by CASCADE", preserved=False))
            if self.preserve:
                definition = f"'CREATE {word.upper()} {view} AS ' || pg_get_viewdef(to_regclass({literal(view)}))"
                expression = f"coalesce({definition}, '')"
                self.side.record("view", view, (), "", lambda original: [], expression=expression)

    def counted(self, sql: str, name: Name, where: str) -> str:
        """The query with the condition. Empty if earlier statements change the rows that the condition selects."""
        names = self.names
        if where and (str(name) in names.changed or (names.changed and re.search(r"\bselect\b", where, re.I))):
            return ""
        return f"{sql} WHERE {where}" if where else sql

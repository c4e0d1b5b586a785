"""What a script adds, renames and makes on its way: a statement means names of then, the catalogs tell those of now."""

from __future__ import annotations

from responder.backends.postgres.ddl_effects import Effect
from responder.backends.postgres.sql import Name

_CHANGES = ("drops columns", "updates rows", "changes a type", "renames", "adds a column")


class ScriptNames:
    """Follows the effects of a script in their order. Tables are named as `str(Name)`."""

    def __init__(self) -> None:
        self.made: set[str] = set()  # tables that the script itself has made
        self.added: set[tuple[str, str]] = set()  # columns that it has added
        self.gone: set[tuple[str, str]] = set()  # columns of now that it has dropped
        self.retyped: set[tuple[str, str]] = set()  # columns of now whose type it has changed
        self.changed: set[str] = set()  # tables whose rows are not as now when a later statement asks for them
        self._tables: dict[str, str] = {}  # a table's name by then → its name now
        self._columns: dict[tuple[str, str], str] = {}  # (table by then, column by then) → column now

    def now(self, table: Name | str) -> str:
        """What a table is called now."""
        return self._tables.get(str(table), str(table))

    def column_now(self, table: Name, column: str) -> str:
        """What one of its columns is called now."""
        return self._columns.get((str(table), column), column)

    def columns_then(self, table: Name) -> dict[str, str]:
        """What its columns are called when the statement runs, by what they are called now; without those that keep
        their names.
        """
        return {now: then for (name, then), now in self._columns.items() if name == str(table)}

    def has_made(self, table: Name) -> bool:
        return str(table) in self.made

    def changes(self, effect: Effect) -> None:
        """From the next statement on its rows may be others than now."""
        if effect.on and effect.does in _CHANGES:
            self.changed.add(str(effect.on))

    def follow(self, effect: Effect) -> None:
        """Another name, another column, another table."""
        if effect.on is None:
            return
        table = str(effect.on)
        if effect.does == "creates a table":
            self.made.add(table)
        elif effect.does == "adds a column":
            self.added |= {(table, column) for column in effect.columns}
        elif effect.does == "renames" and effect.columns:
            self._rename_column(table, effect.columns[0], effect.to)
        elif effect.does == "renames":
            self._rename_table(table, str(Name(effect.to, effect.on.schema)))

    def _rename_column(self, table: str, column: str, new: str) -> None:
        self._columns[table, new] = self._columns.pop((table, column), column)
        self.added.discard((table, new))
        if (table, column) in self.added:
            self.added.remove((table, column))
            self.added.add((table, new))

    def _rename_table(self, table: str, new: str) -> None:
        self._tables[new] = self._tables.pop(table, table)
        self._columns.update({(new, c): before for (t, c), before in self._columns.items() if t == table})
        self.changed |= {new} if table in self.changed else set()
        moved = {(new, c) for t, c in self.added if t == table}
        self.added = {(t, c) for t, c in self.added if t not in (table, new)} | moved
        self.made.discard(new)
        if table in self.made:
            self.made.remove(table)
            self.made.add(new)

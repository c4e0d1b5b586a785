"""Preserves the values of columns that are dropped, overwritten or converted."""

from __future__ import annotations

from typing import NamedTuple

from responder.backends.postgres.catalog import KEEP, Column, Table
from responder.backends.postgres.ddl.effects import Effect
from responder.backends.postgres.ddl.type_widening import widens
from responder.backends.postgres.preservation.restoring_sql import fill, full_name, only, update
from responder.backends.postgres.preservation.script import Loss, ScriptState
from responder.backends.postgres.sql import Name, quoted, shortened

_ON_UPDATE = "changes by ON UPDATE"


class Selection(NamedTuple):
    """Which values change, and how."""

    columns: tuple[str, ...]
    verb: str
    where: str = ""
    as_text: bool = False  # copies them as text: their type changes
    alias: str = ""  # what the condition calls the table, if that is not its name


class ColumnPreserver:
    """Copies values with their keys into the side schema."""

    def __init__(self, state: ScriptState) -> None:
        self._state, self._names, self._side = state, state.names, state.side

    async def drop(self, name: Name, effects: list[Effect]) -> None:
        """Preserves the columns that one statement drops from a table."""
        names = self._names
        columns = tuple(c for e in effects for c in e.columns if (str(name), c) not in names.added)
        names.added -= {(str(name), c) for e in effects for c in e.columns}
        if not columns or names.has_created(name):
            return
        table = await self._state.table(name, columns)
        if table is None:
            self._state.note_missing(effects[0], name)
            return
        self._state.note_views(effects[0], table, str(name))
        present = tuple(c for c in columns if table.column(names.original_column(name, c)))
        original = tuple(names.original_column(name, c) for c in present)
        self._state.script.removed += [(names.original(name), table.name, original)] if present else []
        if not all(effect.if_exists for effect in effects):
            for absent in sorted(set(columns) - set(present)):
                self._note_missing_column(name, absent)
        await self.preserve(name, table, Selection(present, "drops"))
        names.dropped |= {(names.original(name), names.original_column(name, c)) for c in present}

    async def overwrite(self, effect: Effect, name: Name) -> None:
        """Preserves the values that an UPDATE overwrites."""
        columns = self._original_columns(effect, name)
        if not columns or (table := await self._state.table(name, columns)) is None:
            self._note_missing_table(effect, name, columns)
            return
        self._state.note_triggers(table, name)
        if absent := [c for c in columns if not table.column(self._names.original_column(name, c))]:
            self._note_missing_column(name, absent[0])
            return
        for other, changed in table.updated_with:
            if (other_table := await self._state.lookup(other, changed)) is not None:
                await self.preserve(full_name(other), other_table, Selection(changed, _ON_UPDATE))
        await self.preserve(name, table, Selection(columns, "overwrites", effect.where))

    async def convert(self, effect: Effect, name: Name) -> None:
        """Preserves the values of a column whose new type may lose some."""
        columns = self._original_columns(effect, name)
        if not columns or (table := await self._state.table(name, columns)) is None:
            self._note_missing_table(effect, name, columns)
            return
        column = table.column(self._names.original_column(name, columns[0]))
        if column is None:
            self._note_missing_column(name, columns[0])
            return
        if effect.using or not widens(column.type, effect.to):
            self._state.note_views(effect, table, str(name))
            selection = Selection(columns, f"converts to {effect.to.lower()}", as_text=True)
            await self.preserve(name, table, selection)
        self._names.retyped[self._names.original(name), column.name] = effect.to

    async def preserve(self, name: Name, table: Table, selection: Selection) -> None:
        """Copies the selected values, those of child tables first."""
        if not selection.columns:
            return
        for child in table.children if table.kind == "r" else ():
            if (child_table := await self._state.lookup(child, selection.columns)) is not None:
                childless = child_table.model_copy(update={"children": ()})
                alias = selection.alias or name.name
                await self.preserve(full_name(child), childless, selection._replace(alias=alias))
        renamed = {self._names.original_column(name, c): c for c in selection.columns}
        columns = [c for c in table.columns if c.name in renamed]
        # Rows that refer to a changed key cannot be restored before the key itself.
        key = () if set(table.key) & set(renamed) or selection.verb == _ON_UPDATE else table.key
        self._note_loss(name, table, selection, columns, restorable=bool(key))
        if not self._state.preserve:
            return
        copy = self._side.new_name(table.name)
        self._side.lock(name)
        if key:
            self._copy_with_key(name, table, selection, columns, renamed, copy)
            self._record(name, table, columns, copy, as_text=selection.as_text)
        else:
            self._copy("*", name, table, selection, copy)
            self._side.record("rows without a key", name, selection.columns, copy, lambda original: [])

    def _note_loss(
        self, name: Name, table: Table, selection: Selection, columns: list[Column], *, restorable: bool
    ) -> None:
        listed, where = selection.columns, selection.where
        description = f"{selection.verb} {', '.join(f'{name}.{quoted(c)}' for c in listed)}"
        if where:
            description = f"overwrites {', '.join(map(quoted, listed))} of {name} where {shortened(where)}"
        values = " + ".join(f"count({quoted(c.name)})" for c in columns) or "count(*)"
        alias = f" AS {quoted(selection.alias)}" if selection.alias else ""
        query = f"SELECT {values} FROM {only(table)}{self._names.original(name)}{alias}"
        count = self._state.counted(query, name, where)
        loss = Loss(description, count, self._state.preserve, restorable=restorable, unit="value" if columns else "row")
        self._state.script.losses.append(loss)

    def _copy(self, listed: str, name: Name, table: Table, selection: Selection, copy: str) -> None:
        alias = f" AS {quoted(selection.alias)}" if selection.alias else ""
        condition = f" WHERE {selection.where}" if selection.where else ""
        source = f"{only(table)}{name}{alias}{condition}"
        self._side.run(f"CREATE TABLE {KEEP}.{quoted(copy)} AS SELECT {listed} FROM {source}", preserves=True)

    def _copy_with_key(
        self,
        name: Name,
        table: Table,
        selection: Selection,
        columns: list[Column],
        renamed: dict[str, str],
        copy: str,
    ) -> None:
        current = self._names.current_columns(name)
        key = [quoted(current.get(column, column)) for column in table.key]
        values = [quoted(renamed[column.name]) for column in columns]
        listed = [*key, *(f"{value}::text AS {value}" if selection.as_text else value for value in values)]
        self._copy(", ".join(listed), name, table, selection, copy)
        self._side.run(f"ALTER TABLE {KEEP}.{quoted(copy)} ADD PRIMARY KEY ({', '.join(key)})", preserves=True)

    def _record(self, name: Name, table: Table, columns: list[Column], copy: str, *, as_text: bool) -> None:
        names = self._names
        self._state.note_silenced(table, name)
        written = [c.model_copy(update={"built_in": c.built_in and not as_text}) for c in columns if not c.generated]
        self._side.record(
            "columns",
            name,
            tuple(c.name for c in columns),
            copy,
            lambda original: update(names, name, table, written, copy, original),
            fill_sql=fill(names, name, table, written, copy) if written else "",
        )

    def _original_columns(self, effect: Effect, name: Name) -> tuple[str, ...]:
        """The columns that exist before the script; empty if the script created the table."""
        if self._names.has_created(name):
            return ()
        return tuple(c for c in effect.columns if (str(name), c) not in self._names.added)

    def _note_missing_table(self, effect: Effect, name: Name, columns: tuple[str, ...]) -> None:
        if columns:
            self._state.note_missing(effect, name)

    def _note_missing_column(self, name: Name, column: str) -> None:
        self._state.script.unknown.append(f"column {name}.{quoted(column)} does not exist")

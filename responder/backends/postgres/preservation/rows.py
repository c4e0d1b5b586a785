"""Preserves deleted rows, also those that foreign keys delete or change with them."""

from __future__ import annotations

from responder.backends.postgres.catalog import Table
from responder.backends.postgres.ddl.effects import Effect
from responder.backends.postgres.preservation.columns import ColumnPreserver, Selection
from responder.backends.postgres.preservation.restoring_sql import full_name, insert
from responder.backends.postgres.preservation.script import Loss, ScriptState
from responder.backends.postgres.sql import Name, shortened


class RowPreserver:
    """Copies rows into the side schema."""

    def __init__(self, state: ScriptState, columns: ColumnPreserver) -> None:
        self._state, self._columns = state, columns
        self._names, self._side = state.names, state.side

    async def delete(self, effect: Effect, name: Name) -> None:
        """Preserves the rows that a DELETE or TRUNCATE removes."""
        state = self._state
        table = await state.table(name)
        if table is None:
            state.note_missing(effect, name)
            return
        state.note_triggers(table, name)
        condition = f" where {shortened(effect.where)}" if effect.where else ""
        only = "ONLY " if effect.only else ""
        query = f"SELECT count(*) FROM {only}{self._names.original(name)}"
        count = state.counted(query, name, effect.where)
        state.script.losses.append(Loss(f"deletes rows of {name}{condition}", count, state.preserve))
        refers_to_itself = await self._preserve_referencing(effect, table)
        where = "" if refers_to_itself else effect.where  # a cascade may delete any of its own rows
        every = effect.cascade or not refers_to_itself
        for other, columns in () if effect.cascade else table.cleared:
            if (other_table := await state.lookup(other, columns)) is not None:
                await self._columns.preserve(full_name(other), other_table, Selection(columns, "changes by ON DELETE"))
        for child in table.children if table.kind == "r" and not effect.only else ():
            if (child_table := await state.lookup(child, None)) is not None:
                state.note_triggers(child_table, full_name(child))
                self._preserve(full_name(child), child_table, where, alias=name.name, every=every)
        self._preserve(name, table, where, every=every)

    async def _preserve_referencing(self, effect: Effect, table: Table) -> bool:
        """Preserves rows that CASCADE deletes or changes. Returns whether rows of the table itself may be among them.

        The most distant rows come first: they are restored in reverse order, after the rows that they refer to.
        """
        state, refers_to_itself = self._state, False
        for other in table.truncated if effect.cascade else table.cascaded:
            if (other_table := await state.lookup(other, None)) is None:
                continue
            if (other_table.schema_name, other_table.name) == (table.schema_name, table.name):
                refers_to_itself = True
            else:
                state.note_triggers(other_table, full_name(other))
                self._preserve(full_name(other), other_table, every=effect.cascade)
            restorable = effect.cascade or bool(other_table.key)
            loss = Loss(f"deletes or changes rows of {other} by CASCADE", "", state.preserve, restorable=restorable)
            state.script.losses.append(loss)
        return refers_to_itself

    def _preserve(self, name: Name, table: Table, where: str = "", alias: str = "", *, every: bool) -> None:
        """Copies the table's own rows. Those of child tables have more columns and are copied separately.

        `every`: all copied rows are deleted, so all are restored. Else those are restored whose key is missing.
        """
        if not self._state.preserve:
            return
        self._state.note_silenced(table, name)
        copy = self._side.copy_rows(name, table, where, alias)

        def restore(original: bool) -> list[str]:
            return [insert(self._names, name, table, copy, original)] if every or table.key else []

        self._side.record("rows", name, (), copy, restore)

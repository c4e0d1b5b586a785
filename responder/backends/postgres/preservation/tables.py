"""Preserves dropped tables, types and sequences by moving them into the side schema."""

from __future__ import annotations

from responder.backends.postgres.catalog import KEEP, Table
from responder.backends.postgres.ddl.effects import Effect
from responder.backends.postgres.preservation.restoring_sql import advance_sequence, full_name, insert, only, serials
from responder.backends.postgres.preservation.script import Loss, ScriptState
from responder.backends.postgres.sql import Name, literal, quoted


class TablePreserver:
    """Preserves the objects that DROP statements name."""

    def __init__(self, state: ScriptState) -> None:
        self._state, self._names, self._side = state, state.names, state.side

    async def move_table(self, effect: Effect, name: Name) -> bool:
        """Moves a table into the side schema, which is instant. False: it must be dropped."""
        state = self._state
        table = await state.table(name)
        if table is None:
            state.note_missing(effect, name)
            self._names.created.discard(str(name))
            return False
        remaining = tuple(child for child in table.children if str(full_name(child)) not in state.dropped)
        children = remaining if table.kind == "r" else ()
        state.script.removed.append((self._names.original(name), table.name, ()))
        state.dropped.add(str(Name(table.name, table.schema_name)))
        moves = state.preserve and not (table.inherits and children)
        self._note_losses(effect, name, table, children, preserved=moves)
        if not moves and state.preserve:
            state.script.unknown.append(f"{name} both inherits and has child tables: it is dropped and not preserved")
        if not moves:
            return False
        if table.inherits:  # a moved child would still show its rows in the parent
            copy = self._side.copy_rows(name, table)
            self._record(name, table, copy)
            return False
        for child in children:
            if (child_table := await state.lookup(child, None)) is not None:
                state.note_views(effect, child_table, child)
                self._move_child(full_name(child), child_table, str(name), cascade=effect.cascade)
        copy = self._side.move_table(name, cascade=effect.cascade)
        if effect.cascade:
            self._side.require_unreferenced("TABLE", str(name), copy)
        self._record(name, table, copy)
        return True

    async def move_object(self, kind: str, effect: Effect, name: Name) -> bool:
        """Moves a type or sequence, which preserved data may need. False: it must be dropped."""
        state = self._state
        if effect.cascade:
            state.script.unknown.append(f"objects that the {kind.lower()} {name} drops by CASCADE are unknown")
        if effect.cascade or not state.preserve:
            return False
        found = await state.lookup(str(name), None) if kind == "SEQUENCE" else None
        copy = self._side.move_object(kind, name, if_exists=effect.if_exists)
        self._side.require_unreferenced(kind, str(name), copy)
        if found is not None and found.kind == "S":
            self._side.record("sequence", name, (), copy, lambda original: [advance_sequence(name, copy)])
        return True

    def _note_losses(
        self, effect: Effect, name: Name, table: Table, children: tuple[str, ...], *, preserved: bool
    ) -> None:
        losses = self._state.script.losses
        count = f"SELECT count(*) FROM {only(table)}{self._names.original(name)}"
        losses.append(Loss(f"drops the table {name}", count, preserved))
        for child in children if effect.cascade else ():
            count = f"SELECT count(*) FROM ONLY {child}"
            losses.append(Loss(f"drops the table {full_name(child)} by CASCADE", count, preserved))
        self._state.note_views(effect, table, str(name))

    def _move_child(self, name: Name, table: Table, parent: str, *, cascade: bool) -> None:
        self._state.note_silenced(table, name)
        copy = self._side.move_table(name, cascade=cascade, child_of=parent)

        def restore(original: bool) -> list[str]:
            return [_if_present(copy, insert(self._names, name, table, copy, original))]

        self._side.record("table", name, (), copy, restore)

    def _record(self, name: Name, table: Table, copy: str) -> None:
        self._state.note_silenced(table, name)

        def restore(original: bool) -> list[str]:
            rows = insert(self._names, name, table, copy, original)
            return [rows, *serials(self._names, name, table, copy, original)]

        self._side.record("table", name, (), copy, restore)


def _if_present(copy: str, sql: str) -> str:
    """The statement, for a copy that the script makes only in some cases."""
    present = f"to_regclass({literal(f'{KEEP}.{quoted(copy)}')}) IS NOT NULL"
    return f"DO $rollback_if$ BEGIN IF {present} THEN {sql}; END IF; END $rollback_if$"

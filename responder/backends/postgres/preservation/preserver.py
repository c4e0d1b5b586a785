"""Writes a script that preserves what it destroys, in the same transaction, with the SQL that restores it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from responder.backends.postgres.ddl.effects import Effect, Statement
from responder.backends.postgres.ddl.objects import created_type, dropped_objects
from responder.backends.postgres.migration_path import Command
from responder.backends.postgres.preservation.columns import ColumnPreserver
from responder.backends.postgres.preservation.constraints import ConstraintRecorder
from responder.backends.postgres.preservation.moving_sql import dependents
from responder.backends.postgres.preservation.restoring_sql import full_name
from responder.backends.postgres.preservation.rows import RowPreserver
from responder.backends.postgres.preservation.script import Lookup, PreservedScript, Query, ScriptState
from responder.backends.postgres.preservation.tables import TablePreserver
from responder.backends.postgres.sql import Name, shortened

_DROPS = {"drops a table": "TABLE", "drops a type": "TYPE", "drops a sequence": "SEQUENCE"}


class Preserver:
    """Reads statements in their order and follows what they add, rename and create."""

    def __init__(self, lookup: Lookup, query: Query, execution: str, *, preserve: bool) -> None:
        self._state = ScriptState(lookup, query, execution, preserve=preserve)
        self._tables, self._columns = TablePreserver(self._state), ColumnPreserver(self._state)
        self._rows = RowPreserver(self._state, self._columns)
        self._constraints = ConstraintRecorder(self._state)
        self._default_schema: str | None = None

    @property
    def script(self) -> PreservedScript:
        return self._state.script

    async def preserve(self, statements: Iterable[Statement]) -> tuple[list[Command], list[str]]:
        """The commands for these statements, and the SQL that restores the preserved data after they are reverted."""
        start = len(self.script.commands)
        self._state.touched = {}
        self._state.names.begin_step()
        self._default_schema = None
        for statement in statements:
            await self._statement(statement)
        return self.script.commands[start:], self._state.side.restore_statements()

    def rows_may_change(self) -> None:
        """Call it if something else may change rows before the next statements."""
        self._constraints.rows_may_change()

    def take_touched(self) -> dict[str, str]:
        """The tables of the last statements: original names by current names. A second call returns none."""
        touched, self._state.touched = self._state.touched, {}
        return touched

    def upgrade_commands(self, statements: Iterable[Statement]) -> list[Command]:
        """The commands that run the migration again."""
        commands = []
        for statement in statements:
            if (name := created_type(statement.sql)) and any(command.preserves for command in self.script.commands):
                commands += [Command(sql=sql) for sql in self._state.side.clear_type(name)]
            alone = statement.standalone or statement.adds_enum_value
            if not statement.sets_limit:
                commands.append(Command(sql=statement.sql, standalone=alone, index=statement.index))
        return commands

    async def _statement(self, statement: Statement) -> None:
        state, replaced = self._state, False
        self._constraints.record(statement)
        effects = [await self._with_known_name(effect) for effect in statement.effects]
        await self._preserve_dependents(statement.sql)
        dropped_columns: dict[Name, list[Effect]] = {}
        for effect in effects:
            if effect.on and effect.does == "drops columns":
                dropped_columns.setdefault(effect.on, []).append(effect)
            elif effect.on and effect.does in _DROPS:
                if not replaced and state.preserve and effect.does == "drops a table" and not effect.cascade:
                    state.side.try_drop(statement.sql)
                replaced = True
                await self._drop(_DROPS[effect.does], effect, effect.on)
            elif effect.does == "sets the search path":
                self._default_schema = None if effect.to else ""  # empty: every name needs its schema
            elif effect.does == "sets a limit":
                replaced = True
                state.script.notes.append(
                    f"left out, because the responder sets the limits: {shortened(statement.sql)}"
                )
            else:
                await self._change(effect)
            state.names.mark_changed(effect)
        for name, effects in dropped_columns.items():
            await self._columns.drop(name, effects)
        if not replaced:
            if state.preserve:
                state.side.detach(statement.sql)
            state.side.run(statement.sql, standalone=statement.standalone, index=statement.index)

    async def _with_known_name(self, effect: Effect) -> Effect:
        """The effect with the short name of a table in the default schema: a script may use both names for it."""
        if effect.on is None or not effect.on.schema:
            return effect
        return effect.model_copy(update={"on": await self._known_name(effect.on)})

    async def _known_name(self, name: Name) -> Name:
        if self._default_schema is None:
            ((schema,),) = [row.values() for row in await self._state.query("SELECT current_schema()::text")]
            self._default_schema = schema or ""
        return Name(name.name) if name.schema == self._default_schema else name

    async def _preserve_dependents(self, sql: str) -> None:
        """Preserves the tables and columns that a type, extension or schema takes with it by CASCADE."""
        dropped = dropped_objects(sql)
        if dropped is None or not re.search(r"\bCASCADE$", sql, re.I):
            return
        names = self._state.names
        for row in await self._state.query(dependents(*dropped)):
            if str(original := full_name(row["name"])) in self._state.dropped:
                continue
            name = full_name(names.current(await self._known_name(original)))
            if row["columns"]:
                left = tuple(c for c in row["columns"] if (names.original(name), c) not in names.dropped)
                await self._columns.drop(name, [Effect(does="drops columns", on=name, columns=left)])
            else:
                await self._drop("TABLE", Effect(does="drops a table", on=name, cascade=True), name)

    async def _drop(self, kind: str, effect: Effect, name: Name) -> None:
        """Moves the object into the side schema, or drops it if it cannot be moved."""
        moved = (
            await self._tables.move_table(effect, name)
            if kind == "TABLE"
            else await self._tables.move_object(kind, effect, name)
        )
        if moved:
            return
        sql = f"DROP {kind}{' IF EXISTS' if effect.if_exists else ''} {name}{' CASCADE' if effect.cascade else ''}"
        if self._state.preserve:
            self._state.side.detach(sql)
        self._state.side.run(sql)

    async def _change(self, effect: Effect) -> None:
        state = self._state
        match effect.does, effect.on:
            case "unknown", _:
                state.script.unknown.append(effect.reason)
            case "deletes rows", Name() as name:
                await self._rows.delete(effect, name)
            case "updates rows", Name() as name:
                await self._columns.overwrite(effect, name)
            case "changes a type", Name() as name:
                await self._columns.convert(effect, name)
            case _, Name() as name:
                if not state.names.has_created(name):
                    state.script.tables.add(state.names.original(name))  # the statement locks it briefly
                state.names.follow(effect)

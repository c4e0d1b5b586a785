"""What a migration destroys is kept in a side schema, in the same transaction, with the SQL that brings it back."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from responder.backends.postgres.catalog import KEEP, Table
from responder.backends.postgres.ddl_effects import Effect, Statement
from responder.backends.postgres.ddl_parser import created_type
from responder.backends.postgres.preservation.restoring_sql import (
    full_name,
    gently,
    insert,
    only,
    sequence,
    serials,
    update,
)
from responder.backends.postgres.preservation.script_names import ScriptNames
from responder.backends.postgres.preservation.side_schema import SideSchema
from responder.backends.postgres.schema_revision import Command
from responder.backends.postgres.sql import Name, literal, quoted, shortened
from responder.backends.postgres.type_widening import widens

Lookup = Callable[[str, tuple[str, ...] | None], Awaitable[Table | None]]
"""What the catalogs say now of a table, and which views depend on these of its columns."""

_ALONG = "changes along"


@dataclass(frozen=True)
class Loss:
    """Something that goes out of the live tables."""

    what: str  # always the same words for the same thing: the approval is for them
    count: str = ""  # SQL that counts it now; empty where it cannot be counted
    kept: bool = True
    returns: bool = True  # the recorded SQL puts it back where it was


@dataclass
class Kept:
    """A script that keeps what it destroys."""

    commands: list[Command] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    tables: set[str] = field(default_factory=set)


class Keeper:
    """Reads the statements in their order, and follows what they add, rename and make on the way."""

    def __init__(self, lookup: Lookup, mark: str, *, preserve: bool) -> None:
        self._lookup, self._preserve = lookup, preserve
        self.touched: dict[str, str] = {}  # by the last statements: a table's name by then, and now
        self._names = ScriptNames()
        self._gone: set[str] = set()  # tables of now that earlier statements have dropped
        self.kept = Kept()
        self._side = SideSchema(mark, self.kept.commands)

    async def take(self, statements: Iterable[Statement]) -> tuple[list[Command], list[str]]:
        """The commands for these statements, each with what has to be kept before it; and what brings that back once
        they are undone.
        """
        began = len(self.kept.commands)
        self.touched = {}
        for statement in statements:
            await self._take(statement)
        return self.kept.commands[began:], self._side.restored()

    def again(self, statements: Iterable[Statement]) -> list[Command]:
        """The commands that make the migration again."""
        commands = []
        for statement in statements:
            if (left := created_type(statement.sql)) and any(command.keeps for command in self.kept.commands):
                commands += [Command(sql=sql) for sql in self._side.out_of_the_way(left)]
            if not statement.limit:
                commands.append(Command(sql=statement.sql, alone=statement.alone, index=statement.index))
        return commands

    async def _take(self, statement: Statement) -> None:
        replaced = False
        dropped: dict[Name, list[Effect]] = {}
        for effect in statement.effects:
            match effect.does:
                case "unknown":
                    self.kept.unknown.append(effect.why)
                case "drops columns" if effect.on:
                    dropped.setdefault(effect.on, []).append(effect)
                case "drops a table" if effect.on:
                    if not replaced and self._preserve and not effect.cascade:
                        self._side.ask(statement.sql)
                    replaced = True
                    if not await self._move_table(effect, effect.on):
                        self._drop("TABLE", effect, effect.on)
                case "drops a type" | "drops a sequence" if effect.on:
                    replaced = True
                    kind = "TYPE" if effect.does == "drops a type" else "SEQUENCE"
                    if not await self._move_object(kind, effect, effect.on):
                        self._drop(kind, effect, effect.on)
                case "deletes rows" if effect.on:
                    await self._rows(effect, effect.on)
                case "updates rows" | "changes a type" if effect.on:
                    await self._values(effect, effect.on)
                case "sets a limit":
                    replaced = True
                    self.kept.notes.append(f"left out, as the limits of the responder hold: {shortened(statement.sql)}")
                case _:
                    if effect.on and not self._names.has_made(effect.on):
                        self.kept.tables.add(self._names.now(effect.on))  # it is locked for a moment
                    self._names.follow(effect)
            self._names.changes(effect)
        for table, effects in dropped.items():
            await self._drop_columns(table, effects)
        if not replaced:
            if self._preserve:
                self._side.release(statement.sql)
            self._side.run(statement.sql, alone=statement.alone, index=statement.index)

    def _drop(self, kind: str, effect: Effect, name: Name) -> None:
        sql = f"DROP {kind}{' IF EXISTS' if effect.if_exists else ''} {name}{' CASCADE' if effect.cascade else ''}"
        if self._preserve:
            self._side.release(sql)
        self._side.run(sql)

    async def _table(self, name: Name, columns: tuple[str, ...] | None = None) -> Table | None:
        """The table as it is now; None where it is not there, or the script itself has made it."""
        original = str(name)
        if self._names.has_made(name):
            return None
        were = None if columns is None else tuple(self._names.column_now(name, c) for c in columns)
        found = await self._lookup(self._names.now(name), were)
        if found is not None and found.kind not in ("r", "p"):
            self.kept.unknown.append(f"{original} is no table: it is not known where its rows are")
            return None
        if found is not None:
            self.touched[original] = self._names.now(name)
            self.kept.tables.add(self.touched[original])
        return found

    def _missing(self, effect: Effect, name: Name) -> None:
        if not self._names.has_made(name) and not effect.if_exists:
            self.kept.unknown.append(f"there is no {name} now, so it is not known what is lost in it")

    # --- tables -------------------------------------------------------------------------------------------------------
    async def _move_table(self, effect: Effect, name: Name) -> bool:
        """Moves it into the side schema: at once, and with all that is in it. False: it has to be dropped."""
        found = await self._table(name)
        if found is None:
            self._missing(effect, name)
            self._names.made.discard(str(name))
            return False
        where = str(name)
        partitions_are_part_of_it = found.kind != "r"
        heirs = () if partitions_are_part_of_it else tuple(c for c in found.children if c not in self._gone)
        self._gone.add(f"{quoted(found.schema_name)}.{quoted(found.name)}")
        count = f"SELECT count(*) FROM {only(found)}{self._names.now(where)}"
        kept = self._preserve and not (found.inherits and heirs)
        self.kept.losses.append(Loss(f"drops the table {where}", count, kept))
        for heir in heirs if effect.cascade else ():
            count_of_it = f"SELECT count(*) FROM ONLY {heir}"
            self.kept.losses.append(Loss(f"takes the table {full_name(heir)} with it", count_of_it, kept))
        self._views(effect, found, where)
        if not kept and self._preserve:
            self.kept.unknown.append(f"{where} inherits and is inherited from: it is dropped and not kept")
        if not kept:
            return False
        if found.inherits:  # moved, its rows would still be those of the other
            keep = self._side.copy(name, found)
            self._side.record("table", where, (), keep, lambda now: self._whole(name, found, keep, now))
            return False
        for heir in heirs:
            if (of := await self._lookup(heir, None)) is not None:
                self._views(effect, of, heir)
                self._keep_heir(full_name(heir), of, where, cascade=effect.cascade)
        keep = self._side.move_table(name, cascade=effect.cascade)
        if effect.cascade:
            self._side.unneeded("TABLE", where, keep)
        self._side.record("table", where, (), keep, lambda now: self._whole(name, found, keep, now))
        return True

    def _whole(self, name: Name, found: Table, keep: str, now: bool) -> list[str]:
        return [insert(self._names, name, found, keep, now), *serials(self._names, name, found, keep, now)]

    def _keep_heir(self, name: Name, found: Table, parent: str, *, cascade: bool) -> None:
        keep = self._side.move_table(name, cascade=cascade, heir_of=parent)
        self._side.record("table", str(name), (), keep, lambda now: [insert(self._names, name, found, keep, now)])

    async def _move_object(self, kind: str, effect: Effect, name: Name) -> bool:
        """Moves a type or sequence instead of dropping it: what is kept may need it."""
        if effect.cascade:
            self.kept.unknown.append(f"it is not known what goes with the {kind.lower()} {name}")
        if effect.cascade or not self._preserve:
            return False
        found = await self._lookup(str(name), None) if kind == "SEQUENCE" else None
        keep = self._side.move_object(kind, name, if_exists=effect.if_exists)
        self._side.unneeded(kind, str(name), keep)
        if found is not None and found.kind == "S":
            self._side.record("sequence", str(name), (), keep, lambda now: [sequence(name, keep)])
        return True

    # --- columns, values, rows ----------------------------------------------------------------------------------------
    async def _drop_columns(self, name: Name, effects: list[Effect]) -> None:
        columns = tuple(c for e in effects for c in e.columns if (str(name), c) not in self._names.added)
        self._names.added -= {(str(name), c) for e in effects for c in e.columns}
        if not columns or self._names.has_made(name):
            return
        found = await self._table(name, columns)
        if found is None:
            self._missing(effects[0], name)
            return
        self._views(effects[0], found, str(name))
        there = [c for c in columns if found.column(self._names.column_now(name, c))]
        for absent in sorted(set(columns) - set(there)):
            if not all(e.if_exists for e in effects):
                self.kept.unknown.append(f"there is no column {quoted(absent)} in {name} now")
        await self._keep_columns(name, found, tuple(there), "drops")
        self._names.gone |= {(self._names.now(name), self._names.column_now(name, c)) for c in there}

    async def _values(self, effect: Effect, name: Name) -> None:
        columns = tuple(c for c in effect.columns if (str(name), c) not in self._names.added)
        if not columns or self._names.has_made(name):
            return
        found = await self._table(name, columns)
        if found is None:
            self._missing(effect, name)
            return
        if effect.does == "updates rows":
            self._acts(found, name)
            if absent := [c for c in columns if not found.column(self._names.column_now(name, c))]:
                self.kept.unknown.append(f"there is no column {quoted(absent[0])} in {name} now")
                return
            for other, along in found.along:
                if (of := await self._lookup(other, along)) is not None:
                    await self._keep_columns(full_name(other), of, along, _ALONG)
            await self._keep_columns(name, found, columns, "overwrites", effect.where)
            return
        (column,) = columns
        now = found.column(self._names.column_now(name, column))
        if now is None:
            self.kept.unknown.append(f"there is no column {quoted(column)} in {name} now")
        elif effect.using or not widens(now.type, effect.to):
            self._views(effect, found, str(name))
            await self._keep_columns(name, found, columns, f"turns into {effect.to.lower()}", as_text=True)
        if now is not None:
            self._names.retyped.add((self._names.now(name), now.name))

    async def _keep_columns(
        self,
        name: Name,
        found: Table,
        columns: tuple[str, ...],
        verb: str,
        where: str = "",
        as_text: bool = False,
        called: str = "",
    ) -> None:
        """`called`: what the condition calls the table, where that is not its name."""
        if not columns:
            return
        if found.kind == "r" and found.children:
            for child in found.children:
                if (of := await self._lookup(child, columns)) is not None:
                    alone = of.model_copy(update={"children": ()})
                    by = called or name.name
                    await self._keep_columns(full_name(child), alone, columns, verb, where, as_text, by)
        originals = {self._names.column_now(name, c): c for c in columns}
        facts = [c for c in found.columns if c.name in originals]
        own, alias = only(found), f" AS {quoted(called)}" if called else ""
        source, now = f"{own}{name}{alias}", f"{own}{self._names.now(name)}"
        condition = f" WHERE {where}" if where else ""
        # What points to a key that has changed cannot be put back while the key itself is not.
        key = () if set(found.key) & set(originals) or verb == _ALONG else found.key
        values = " + ".join(f"count({quoted(c.name)})" for c in facts) or "count(*)"
        what = f"{verb} {', '.join(f'{name}.{quoted(c)}' for c in columns)}"
        if where:
            what = f"overwrites {', '.join(quoted(c) for c in columns)} of {name} where {shortened(where)}"
        count = self._counted(f"SELECT {values} FROM {now}{alias}", name, where)
        self.kept.losses.append(Loss(what, count, self._preserve, returns=bool(key)))
        if not self._preserve:
            return
        keep = self._side.name(found.name)
        self._side.lock(name)
        if not key:
            self._side.run(f"CREATE TABLE {KEEP}.{quoted(keep)} AS SELECT * FROM {source}{condition}", keeps=True)
            self._side.record("rows without a key", str(name), columns, keep, lambda now: [])
            return
        then = self._names.columns_then(name)
        keys = [then.get(k, k) for k in found.key]
        text = "::text AS {}" if as_text else ""
        taken = [
            *map(quoted, keys),
            *(quoted(originals[c.name]) + text.format(quoted(originals[c.name])) for c in facts),
        ]
        self._side.run(
            f"CREATE TABLE {KEEP}.{quoted(keep)} AS SELECT {', '.join(taken)} FROM {source}{condition}", keeps=True
        )
        self._side.run(
            f"ALTER TABLE {KEEP}.{quoted(keep)} ADD PRIMARY KEY ({', '.join(map(quoted, keys))})", keeps=True
        )
        back = [c.model_copy(update={"built_in": c.built_in and not as_text}) for c in facts if not c.generated]
        names = tuple(c.name for c in facts)
        self._side.record(
            "columns",
            str(name),
            names,
            keep,
            lambda now: update(self._names, name, found, back, keep, now),
            gently=gently(self._names, name, found, back, keep) if back else "",
        )

    async def _rows(self, effect: Effect, name: Name) -> None:
        found = await self._table(name)
        if found is None:
            self._missing(effect, name)
            return
        self._acts(found, name)
        which = f" where {shortened(effect.where)}" if effect.where else ""
        what = f"deletes rows of {name}{which}"
        only = "ONLY " if effect.only else ""
        count = self._counted(f"SELECT count(*) FROM {only}{self._names.now(name)}", name, effect.where)
        self.kept.losses.append(Loss(what, count, self._preserve))
        where, sure = effect.where, True
        # The farthest that a key takes along first: they come back in the other order, and need what they refer to.
        for other in found.truncated if effect.cascade else found.follow:
            if (of := await self._lookup(other, None)) is None:
                continue
            returns = effect.cascade or bool(of.key)
            if of.schema_name == found.schema_name and of.name == found.name:
                where, sure = "", effect.cascade  # any of its own rows may be among them
            else:
                self._acts(of, full_name(other))
                self._keep_rows(full_name(other), of, sure=effect.cascade)
            what = f"rows of {other} go or change with them"
            self.kept.losses.append(Loss(what, "", self._preserve, returns=returns))
        for other, columns in () if effect.cascade else found.emptied:
            if (of := await self._lookup(other, columns)) is not None:
                await self._keep_columns(full_name(other), of, columns, "changes with them")
        for child in found.children if found.kind == "r" and not effect.only else ():
            if (of := await self._lookup(child, None)) is not None:
                self._acts(of, full_name(child))
                self._keep_rows(full_name(child), of, where, called=name.name, sure=sure)
        self._keep_rows(name, found, where, sure=sure)

    def _keep_rows(self, name: Name, found: Table, where: str = "", called: str = "", *, sure: bool) -> None:
        """Its own rows: those of heirs are kept by themselves, as they have more columns.

        `sure`: all of them go, so all come back; else those whose key is not there any more do.
        """
        if not self._preserve:
            return
        keep = self._side.copy(name, found, where, called)
        returns = sure or found.key
        self._side.record(
            "rows", str(name), (), keep, lambda now: [insert(self._names, name, found, keep, now)] if returns else []
        )

    def _acts(self, found: Table, name: Name) -> None:
        """What is set off by a change of rows is not read, so it is named."""
        if found.triggers:
            note = f"triggers of {name} fire, and what they do is not known: {', '.join(found.triggers)}"
            if note not in self.kept.notes:
                self.kept.notes.append(note)

    def _counted(self, sql: str, name: Name, where: str) -> str:
        """The count of what a condition means; empty where earlier statements change what it will mean."""
        if where and (
            str(name) in self._names.changed or (self._names.changed and re.search(r"\bselect\b", where, re.I))
        ):
            return ""
        return f"{sql} WHERE {where}" if where else sql

    # --- names and the record -----------------------------------------------------------------------------------------
    def _views(self, effect: Effect, found: Table, where: str) -> None:
        for view, kind in found.views:
            word = "materialized view" if kind == "m" else "view"
            if effect.cascade:
                self.kept.losses.append(Loss(f"takes the {word} {view} with it", kept=False))
                if self._preserve:
                    shown = f"'CREATE {word.upper()} {view} AS ' || pg_get_viewdef(to_regclass({literal(view)}))"
                    expression = f"coalesce({shown}, '')"
                    self._side.record("view", view, (), "", lambda now: [], expression=expression)
            else:
                self.kept.notes.append(
                    f"the {word} {view} depends on {where}: it must be gone by then, or it is refused"
                )

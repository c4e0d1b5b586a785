"""What a migration destroys is kept in a side schema, in the same transaction, with the SQL that brings it back."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from responder.catalog import KEEP, Column, Table
from responder.effects import Effect, Statement
from responder.levers.schema_revision import Command
from responder.sql import Name, literal, quoted, shortened

Lookup = Callable[[str, tuple[str, ...] | None], Awaitable[Table | None]]
"""What the catalogs say now of a table, and which views depend on these of its columns."""

Back = Callable[[bool], list[str]]
"""The SQL that brings something back, by the names of now or by those of then."""

_WIDER = {
    "smallint": ("integer", "bigint", "numeric"),
    "integer": ("bigint", "numeric"),
    "bigint": ("numeric",),
    "real": ("double precision",),
}


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
        self._lookup, self._mark, self._preserve = lookup, mark, preserve
        self._n = self._records = 0
        self.touched: dict[str, str] = {}  # by the last statements: a table's name by then, and now
        self._rows_back: list[str] = []
        self._values_back: list[str] = []
        self._added: set[tuple[str, str]] = set()  # columns that the script itself has added
        self._gone: set[tuple[str, str]] = set()  # columns of now that it has dropped
        self._retyped: set[tuple[str, str]] = set()  # columns of now whose type it has changed
        self._changed: set[str] = set()  # tables whose rows are not as now when a later statement asks for them
        self._made: set[str] = set()  # tables that it has made
        self._names: dict[str, str] = {}  # a table's name by then → its name now
        self._columns: dict[tuple[str, str], str] = {}  # (table by then, column by then) → column now
        self.kept = Kept()

    async def take(self, statements: Iterable[Statement]) -> tuple[list[Command], list[str]]:
        """The commands for these statements, each with what has to be kept before it; and what brings that back once
        they are undone: rows before values, as values may refer to rows.
        """
        began = len(self.kept.commands)
        self._rows_back, self._values_back, self.touched = [], [], {}
        for one in statements:
            await self._take(one)
        return self.kept.commands[began:], [*self._rows_back, *self._values_back]

    async def _take(self, one: Statement) -> None:
        replaced = False
        dropped: dict[Name, list[Effect]] = {}
        for effect in one.effects:
            match effect.does:
                case "unknown":
                    self.kept.unknown.append(effect.why)
                case "drops columns" if effect.on:
                    dropped.setdefault(effect.on, []).append(effect)
                case "drops a table" if effect.on:
                    if not replaced and self._preserve and not effect.cascade:
                        self._run(_TRIED.format(drop=one.sql), keeps=True)
                    replaced = True
                    if not await self._move_table(effect, effect.on):
                        self._run(_drop("TABLE", effect, effect.on))
                case "drops a type" | "drops a sequence" if effect.on:
                    replaced = True
                    kind = "TYPE" if effect.does == "drops a type" else "SEQUENCE"
                    if not self._move_aside(kind, effect, effect.on):
                        self._run(_drop(kind, effect, effect.on))
                case "deletes rows" if effect.on:
                    await self._rows(effect, effect.on)
                case "updates rows" | "changes a type" if effect.on:
                    await self._values(effect, effect.on)
                case "sets a limit":
                    replaced = True
                    self.kept.notes.append(f"left out, as the limits of the responder hold: {shortened(one.sql)}")
                case _:
                    self._follow(effect)
            if effect.on and effect.does in _CHANGES:
                self._changed.add(str(effect.on))
        for table, effects in dropped.items():
            await self._drop_columns(table, effects)
        if not replaced:
            self._run(one.sql, alone=one.alone, index=one.index)

    def _run(self, sql: str, *, alone: bool = False, index: str = "", keeps: bool = False) -> None:
        self.kept.commands.append(Command(sql=sql, alone=alone, index=index, keeps=keeps))

    def _follow(self, effect: Effect) -> None:
        if effect.on is None:
            return
        table = str(effect.on)
        if table not in self._made:
            self.kept.tables.add(self._now(table))  # it is locked for a moment
        if effect.does == "creates a table":
            self._made.add(table)
        elif effect.does == "adds a column":
            self._added |= {(table, column) for column in effect.columns}
        elif effect.does == "renames" and effect.columns:
            (column,) = effect.columns
            self._columns[table, effect.to] = self._columns.pop((table, column), column)
            self._added.discard((table, effect.to))
            if (table, column) in self._added:
                self._added.remove((table, column))
                self._added.add((table, effect.to))
        elif effect.does == "renames":
            new = str(Name(effect.to, effect.on.schema))
            self._names[new] = self._names.pop(table, table)
            self._columns.update({(new, c): was for (t, c), was in self._columns.items() if t == table})
            self._changed |= {new} if table in self._changed else set()
            moved = {(new, c) for t, c in self._added if t == table}
            self._added = {(t, c) for t, c in self._added if t not in (table, new)} | moved
            self._made.discard(new)
            if table in self._made:
                self._made.remove(table)
                self._made.add(new)

    async def _table(self, name: Name, columns: tuple[str, ...] | None = None) -> Table | None:
        """The table as it is now; None where it is not there, or the script itself has made it."""
        told = str(name)
        if told in self._made:
            return None
        were = None if columns is None else tuple(self._columns.get((told, c), c) for c in columns)
        found = await self._lookup(self._names.get(told, told), were)
        if found is not None and found.kind not in ("r", "p"):
            self.kept.unknown.append(f"{told} is no table: it is not known where its rows are")
            return None
        if found is not None:
            self.touched[told] = self._names.get(told, told)
            self.kept.tables.add(self.touched[told])
        return found

    def _missing(self, effect: Effect, name: Name) -> None:
        if str(name) not in self._made and not effect.if_exists:
            self.kept.unknown.append(f"there is no {name} now, so it is not known what is lost in it")

    # --- tables -------------------------------------------------------------------------------------------------------
    async def _move_table(self, effect: Effect, name: Name) -> bool:
        """Moves it into the side schema: at once, and with all that is in it. False: it has to be dropped."""
        found = await self._table(name)
        if found is None:
            self._missing(effect, name)
            self._made.discard(str(name))
            return False
        where = str(name)
        heirs = found.children if found.kind == "r" else ()  # partitions are a part of it
        count = f"SELECT count(*) FROM {_only(found)}{self._now(where)}"
        kept = self._preserve and not (found.inherits and heirs)
        self.kept.losses.append(Loss(f"drops the table {where}", count, kept))
        for heir in heirs if effect.cascade else ():
            count_of_it = f"SELECT count(*) FROM ONLY {heir}"
            self.kept.losses.append(Loss(f"takes the table {_name_of(heir)} with it", count_of_it, kept))
        self._views(effect, found, where)
        if not kept and self._preserve:
            self.kept.unknown.append(f"{where} inherits and is inherited from: it is dropped and not kept")
        if not kept:
            return False
        if found.inherits:  # moved, its rows would still be those of the other
            keep = self._copy(name, found)
            self._record("table", where, (), keep, lambda now: self._whole(name, found, keep, now))
            return False
        self._free(where, found, cascade=effect.cascade)
        for child in found.children:
            if (of := await self._lookup(child, None)) is None:
                continue
            if heirs:
                self._views(effect, of, child)
                self._free(child, of, cascade=effect.cascade)
            self._keep_child(_name_of(child), of, recorded=bool(heirs))
        keep = self._aside("TABLE", Name(name.name, name.schema or found.schema_name), found.belongings)
        if effect.cascade:
            self._unneeded("TABLE", where, keep)
        self._record("table", where, (), keep, lambda now: self._whole(name, found, keep, now))
        return True

    def _whole(self, name: Name, found: Table, keep: str, now: bool) -> list[str]:
        return [self._insert(name, found, keep, now), *self._serials(name, found, keep, now)]

    def _free(self, where: str, found: Table, *, cascade: bool) -> None:
        """What is kept must neither hold others back nor act by itself."""
        for told in found.referring if cascade else ():
            self._run(told, keeps=True)
        for view, kind in found.views if cascade else ():
            self._run(f"DROP {'MATERIALIZED ' if kind == 'm' else ''}VIEW IF EXISTS {view} CASCADE", keeps=True)
        for constraint in found.foreign_keys:
            self._run(f"ALTER TABLE {where} DROP CONSTRAINT IF EXISTS {constraint}", keeps=True)
        for trigger in found.triggers:
            self._run(f"DROP TRIGGER IF EXISTS {trigger} ON {where}", keeps=True)

    def _keep_child(self, name: Name, found: Table, *, recorded: bool) -> None:
        keep = self._aside("TABLE", name, found.belongings)
        if recorded:
            self._record("table", str(name), (), keep, lambda now: [self._insert(name, found, keep, now)])

    def _move_aside(self, kind: str, effect: Effect, name: Name) -> bool:
        """What is kept may still be of this type, so it is not dropped but moved as well."""
        if effect.cascade:
            self.kept.unknown.append(f"it is not known what goes with the {kind.lower()} {name}")
        if effect.cascade or effect.if_exists or not self._preserve:
            return False  # where something that is kept still needs it, the server refuses
        self._unneeded(kind, str(name), self._aside(kind, name))
        return True

    def _aside(self, kind: str, name: Name, belongings: Iterable[str] = ()) -> str:
        """Renames it and all that belongs to it before it moves: of each name there may be one there already."""
        for told in belongings:
            what, _, full = told.partition(" ")
            self._run(f"ALTER {what} {full} RENAME TO {quoted(self._name(_name_of(full).name))}", keeps=True)
        keep = self._name(name.name)
        self._run(f"ALTER {kind} {name} RENAME TO {quoted(keep)}", keeps=True)
        self._run(f"ALTER {kind} {Name(keep, name.schema)} SET SCHEMA {KEEP}", keeps=True)
        return keep

    def _unneeded(self, kind: str, was: str, keep: str) -> None:
        """What lives must not need what is kept, or it would go with the side schema."""
        objects = _OF_TYPE if kind == "TYPE" else _OF_TABLE
        told = literal(f"{kind.lower()} {was} cannot be dropped, as it is needed by ")
        of = objects.format(keep=literal(f"{KEEP}.{quoted(keep)}"))
        self._run(_UNNEEDED.format(of=of, told=told), keeps=True)

    # --- columns, values, rows ----------------------------------------------------------------------------------------
    async def _drop_columns(self, name: Name, effects: list[Effect]) -> None:
        columns = tuple(c for e in effects for c in e.columns if (str(name), c) not in self._added)
        self._added -= {(str(name), c) for e in effects for c in e.columns}
        if not columns or str(name) in self._made:
            return
        found = await self._table(name, columns)
        if found is None:
            self._missing(effects[0], name)
            return
        self._views(effects[0], found, str(name))
        there = [c for c in columns if found.column(self._now_column(name, c))]
        for absent in sorted(set(columns) - set(there)):
            if not all(e.if_exists for e in effects):
                self.kept.unknown.append(f"there is no column {quoted(absent)} in {name} now")
        await self._keep_columns(name, found, tuple(there), "drops")
        self._gone |= {(self._now(str(name)), self._now_column(name, c)) for c in there}

    async def _values(self, effect: Effect, name: Name) -> None:
        columns = tuple(c for c in effect.columns if (str(name), c) not in self._added)
        if not columns or str(name) in self._made:
            return
        found = await self._table(name, columns)
        if found is None:
            self._missing(effect, name)
            return
        if effect.does == "updates rows":
            self._acts(found, name)
            if absent := [c for c in columns if not found.column(self._now_column(name, c))]:
                self.kept.unknown.append(f"there is no column {quoted(absent[0])} in {name} now")
                return
            for other, along in found.along:
                if (of := await self._lookup(other, along)) is not None:
                    await self._keep_columns(_name_of(other), of, along, _ALONG)
            await self._keep_columns(name, found, columns, "overwrites", effect.where)
            return
        (column,) = columns
        now = found.column(self._now_column(name, column))
        if now is None:
            self.kept.unknown.append(f"there is no column {quoted(column)} in {name} now")
        elif effect.using or not _widens(now.type, effect.to):
            self._views(effect, found, str(name))
            await self._keep_columns(name, found, columns, f"turns into {effect.to.lower()}", as_text=True)
        if now is not None:
            self._retyped.add((self._now(str(name)), now.name))

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
                    await self._keep_columns(_name_of(child), alone, columns, verb, where, as_text, by)
        told = {self._now_column(name, c): c for c in columns}
        facts = [c for c in found.columns if c.name in told]
        only, alias = _only(found), f" AS {quoted(called)}" if called else ""
        source, now = f"{only}{name}{alias}", f"{only}{self._now(str(name))}"
        condition = f" WHERE {where}" if where else ""
        # What points to a key that has changed cannot be put back while the key itself is not.
        key = () if set(found.key) & set(told) or verb == _ALONG else found.key
        values = " + ".join(f"count({quoted(c.name)})" for c in facts) or "count(*)"
        what = f"{verb} {', '.join(f'{name}.{quoted(c)}' for c in columns)}"
        if where:
            what = f"overwrites {', '.join(quoted(c) for c in columns)} of {name} where {shortened(where)}"
        count = self._counted(f"SELECT {values} FROM {now}{alias}", name, where)
        self.kept.losses.append(Loss(what, count, self._preserve, returns=bool(key)))
        if not self._preserve:
            return
        keep = self._name(found.name)
        self._lock(name)
        if not key:
            self._run(f"CREATE TABLE {KEEP}.{quoted(keep)} AS SELECT * FROM {source}{condition}", keeps=True)
            self._record("rows without a key", str(name), columns, keep, lambda now: [])
            return
        then = self._then(name)
        keys = [then.get(k, k) for k in found.key]
        text = "::text AS {}" if as_text else ""
        taken = [*map(quoted, keys), *(quoted(told[c.name]) + text.format(quoted(told[c.name])) for c in facts)]
        self._run(
            f"CREATE TABLE {KEEP}.{quoted(keep)} AS SELECT {', '.join(taken)} FROM {source}{condition}", keeps=True
        )
        self._run(f"ALTER TABLE {KEEP}.{quoted(keep)} ADD PRIMARY KEY ({', '.join(map(quoted, keys))})", keeps=True)
        back = [c.model_copy(update={"built_in": c.built_in and not as_text}) for c in facts if not c.generated]

        def update(now: bool) -> list[str]:
            called = {} if now else then
            sets = ", ".join(f"{quoted(called.get(c.name, c.name))} = {_cast(c, told[c.name])}" for c in back)
            match = " AND ".join(f"t.{quoted(called.get(k, k))} = k.{quoted(then.get(k, k))}" for k in found.key)
            table = f"{only}{self._now(str(name)) if now else name}"
            return [f"UPDATE {table} AS t SET {sets} FROM {KEEP}.{quoted(keep)} AS k WHERE {match}"] if back else []

        sets = ", ".join(f"{quoted(c.name)} = coalesce(t.{quoted(c.name)}, {_cast(c, told[c.name])})" for c in back)
        empty = " OR ".join(f"t.{quoted(c.name)} IS NULL" for c in back)
        match = " AND ".join(f"t.{quoted(k)} = k.{quoted(then.get(k, k))}" for k in found.key)
        gently = f"UPDATE {now} AS t SET {sets} FROM {KEEP}.{quoted(keep)} AS k WHERE {match} AND ({empty})"
        names = tuple(c.name for c in facts)
        self._record("columns", str(name), names, keep, update, gently=gently if back else "")

    async def _rows(self, effect: Effect, name: Name) -> None:
        found = await self._table(name)
        if found is None:
            self._missing(effect, name)
            return
        self._acts(found, name)
        which = f" where {shortened(effect.where)}" if effect.where else ""
        told = f"deletes rows of {name}{which}"
        only = "ONLY " if effect.only else ""
        count = self._counted(f"SELECT count(*) FROM {only}{self._now(str(name))}", name, effect.where)
        self.kept.losses.append(Loss(told, count, self._preserve))
        where, sure = effect.where, True
        # The farthest that a key takes along first: they come back in the other order, and need what they refer to.
        for other in found.truncated if effect.cascade else found.follow:
            if (of := await self._lookup(other, None)) is None:
                continue
            returns = effect.cascade or bool(of.key)
            if of.schema_name == found.schema_name and of.name == found.name:
                where, sure = "", effect.cascade  # any of its own rows may be among them
            else:
                self._acts(of, _name_of(other))
                self._keep_rows(_name_of(other), of, sure=effect.cascade)
            told = f"rows of {other} go or change with them"
            self.kept.losses.append(Loss(told, "", self._preserve, returns=returns))
        for other, columns in () if effect.cascade else found.emptied:
            if (of := await self._lookup(other, columns)) is not None:
                await self._keep_columns(_name_of(other), of, columns, "changes with them")
        for child in found.children if found.kind == "r" and not effect.only else ():
            if (of := await self._lookup(child, None)) is not None:
                self._acts(of, _name_of(child))
                self._keep_rows(_name_of(child), of, where, called=name.name, sure=sure)
        self._keep_rows(name, found, where, sure=sure)

    def _keep_rows(self, name: Name, found: Table, where: str = "", called: str = "", *, sure: bool) -> None:
        """Its own rows: those of heirs are kept by themselves, as they have more columns.

        `sure`: all of them go, so all come back; else those whose key is not there any more do.
        """
        if not self._preserve:
            return
        keep = self._copy(name, found, where, called)
        returns = sure or found.key
        self._record("rows", str(name), (), keep, lambda now: [self._insert(name, found, keep, now)] if returns else [])

    def _copy(self, name: Name, found: Table, where: str = "", called: str = "") -> str:
        keep, alias = self._name(found.name), f" AS {quoted(called)}" if called else ""
        condition = f" WHERE {where}" if where else ""
        self._lock(name)
        self._run(
            f"CREATE TABLE {KEEP}.{quoted(keep)} AS SELECT * FROM {_only(found)}{name}{alias}{condition}", keeps=True
        )
        return keep

    def _lock(self, name: Name) -> None:
        """Nobody writes between the copy and the statement: such rows would be destroyed and not kept."""
        self._run(f"LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE", keeps=True)

    def _acts(self, found: Table, name: Name) -> None:
        """What is set off by a change of rows is not read, so it is named."""
        if found.triggers:
            told = f"triggers of {name} fire, and what they do is not known: {', '.join(found.triggers)}"
            if told not in self.kept.notes:
                self.kept.notes.append(told)

    def _counted(self, sql: str, name: Name, where: str) -> str:
        """The count of what a condition means; empty where earlier statements change what it will mean."""
        if where and (str(name) in self._changed or (self._changed and re.search(r"\bselect\b", where, re.I))):
            return ""
        return f"{sql} WHERE {where}" if where else sql

    # --- names and the record -----------------------------------------------------------------------------------------
    def _now(self, table: str) -> str:
        return self._names.get(table, table)

    def _now_column(self, name: Name, column: str) -> str:
        return self._columns.get((str(name), column), column)

    def _then(self, name: Name) -> dict[str, str]:
        """What the columns are called when the statement runs, by what they are called now."""
        return {now: then for (table, then), now in self._columns.items() if table == str(name)}

    def _serials(self, name: Name, found: Table, keep: str, now: bool) -> list[str]:
        """Numbers that were given out are not given out again."""
        table, called = (self._now(str(name)), {}) if now else (str(name), self._then(name))
        there, then = literal(f"{KEEP}.{quoted(keep)}"), self._then(name)
        columns = [
            (called.get(c.name, c.name), then.get(c.name, c.name))
            for c in found.columns
            if c.serial and (self._now(str(name)), c.name) not in self._gone
        ]
        return [
            f"SELECT setval(pg_get_serial_sequence({literal(table)}, {literal(c)}), greatest(1,"
            f" max({quoted(c)})::bigint,"
            f" pg_sequence_last_value(pg_get_serial_sequence({there}, {literal(k)})::regclass))) FROM {table}"
            for c, k in columns
        ]

    def _insert(self, name: Name, found: Table, keep: str, now: bool) -> str:
        """Generated columns are made again; a type of the user's own may be another of that name by then."""
        then, at = self._then(name), self._now(str(name))
        taken = [c for c in found.columns if not c.generated and (at, c.name) not in self._gone]
        taken = [c.model_copy(update={"built_in": c.built_in and (at, c.name) not in self._retyped}) for c in taken]
        table, called = (self._now(str(name)), {}) if now else (str(name), then)
        names = ", ".join(quoted(called.get(c.name, c.name)) for c in taken)
        values = ", ".join(_cast(c, then.get(c.name, c.name)) for c in taken)
        return (
            f"INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE SELECT {values}"
            f" FROM {_only(found)}{KEEP}.{quoted(keep)} AS k ON CONFLICT DO NOTHING"
        )

    def _name(self, table: str) -> str:
        self._n += 1
        return f"{self._mark}_{self._n}_{table}".encode()[:63].decode(errors="ignore")

    def _views(self, effect: Effect, found: Table, where: str) -> None:
        for view, kind in found.views:
            word = "materialized view" if kind == "m" else "view"
            if effect.cascade:
                self.kept.losses.append(Loss(f"takes the {word} {view} with it", kept=False))
                if self._preserve:
                    shown = f"'CREATE {word.upper()} {view} AS ' || pg_get_viewdef(to_regclass({literal(view)}))"
                    told = f"coalesce({shown}, '')"
                    self._record("view", view, (), "", lambda now: [], expression=told)
            else:
                self.kept.notes.append(
                    f"the {word} {view} depends on {where}: it must be gone by then, or it is refused"
                )

    def _record(
        self,
        what: str,
        source: str,
        columns: tuple[str, ...],
        keep: str,
        back: Back,
        *,
        gently: str = "",
        expression: str = "",
    ) -> None:
        """On record is the SQL for a schema as it is now, all of the migration made again; in the plan the SQL for the
        one that this very statement is taken back in.
        """
        self._records += 1
        told = expression or literal(";\n".join(back(True)))
        array = f"ARRAY[{', '.join(map(literal, columns))}]::text[]"
        self._run(
            f"INSERT INTO {KEEP}.kept (execution, number, what, source, columns, keep, back, gently) VALUES"
            f" ({literal(self._mark)}, {self._records}, {literal(what)}, {literal(source)}, {array}, {literal(keep)},"
            f" {told}, {literal(gently) if gently else told})",
            keeps=True,
        )
        (self._values_back if what == "columns" else self._rows_back)[:0] = back(False)


_TRIED = (
    "DO $rollback_try$ BEGIN BEGIN {drop}; RAISE SQLSTATE 'RB001'; EXCEPTION WHEN SQLSTATE 'RB001' THEN NULL; END;"
    " END $rollback_try$"
)
"""Moved away, nothing would be missed: so the server is asked whether it would let it be dropped."""

_ALONG = "changes along"

_CHANGES = ("drops columns", "updates rows", "changes a type", "renames", "adds a column")

_OF_TYPE = "SELECT 'pg_type'::regclass, unnest(ARRAY[oid, typarray]) FROM pg_type WHERE oid = to_regtype({keep})"
_OF_TABLE = (
    "SELECT 'pg_class'::regclass, to_regclass({keep})::oid"
    " UNION ALL SELECT classid, objid FROM pg_depend WHERE refclassid = 'pg_class'::regclass"
    " AND refobjid = to_regclass({keep}) AND classid = 'pg_class'::regclass AND deptype IN ('a', 'i')"
    " UNION ALL SELECT 'pg_type'::regclass, unnest(ARRAY[oid, typarray]) FROM pg_type"
    " WHERE typrelid = to_regclass({keep})"
)
"""It, the sequences of its columns, and the type of its rows."""

_UNNEEDED = (
    "DO $rollback_needs$ DECLARE told text; BEGIN SELECT string_agg(DISTINCT o.type || ' ' || o.identity, ', ')"
    " INTO told FROM pg_depend d, pg_identify_object(d.classid, d.objid, d.objsubid) o"
    " WHERE d.deptype = 'n' AND (d.refclassid, d.refobjid) IN ({of})"
    " AND o.identity !~ '^(for |.* on )?rollback_keep[.]';"
    " IF told IS NOT NULL THEN RAISE EXCEPTION USING ERRCODE = '2BP01', MESSAGE = {told} || told; END IF;"
    " END $rollback_needs$"
)

PREPARE = (
    f"CREATE TABLE IF NOT EXISTS {KEEP}.kept (execution text, number int, what text NOT NULL, source text NOT NULL,"
    " columns text[] NOT NULL, keep text NOT NULL, back text NOT NULL, gently text NOT NULL,"
    " at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (execution, number))"
)


def _only(found: Table) -> str:
    """A partitioned table has its rows in its partitions, any other one has its own."""
    return "ONLY " if found.kind == "r" else ""


def _drop(kind: str, effect: Effect, name: Name) -> str:
    return f"DROP {kind}{' IF EXISTS' if effect.if_exists else ''} {name}{' CASCADE' if effect.cascade else ''}"


def _name_of(told: str) -> Name:
    """A name as the catalogs tell it, with its schema."""
    parts = [
        part.replace('""', '"') for part in re.findall(r'"((?:[^"]|"")*)"|([^".]+)', told) for part in part if part
    ]
    return Name(parts[1], parts[0])


def _cast(column: Column, called: str) -> str:
    value = f"k.{quoted(called)}"
    return value if column.built_in else f"{value}::text::{column.type}"


_SYNONYMS = {"int": "integer", "int4": "integer", "int8": "bigint", "int2": "smallint", "decimal": "numeric"}


def _widens(old: str, new: str) -> bool:
    """Whether every value of the old type is one of the new."""
    to = _SYNONYMS.get(new.lower(), new.lower()).replace("varchar", "character varying")
    if to == old or (to in ("text", "character varying") and old.startswith(("character varying", "text"))):
        return True
    lengths = [re.fullmatch(r"character varying\((\d+)\)", one) for one in (old, to)]
    if lengths[0] and lengths[1]:
        return int(lengths[0][1]) <= int(lengths[1][1])
    return to in _WIDER.get(old, ())

"""What a migration destroys is kept in a side schema, in the same transaction, with the SQL that brings it back."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from responder.catalog import KEEP, Column, Table
from responder.levers.schema_revision import Command
from responder.statements import Effect, Name, Statement, literal, quoted, shortened

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
                case _:
                    self._follow(effect)
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
        count = f"SELECT count(*) FROM {self._now(where)}"
        self.kept.losses.append(Loss(f"drops the table {where}", count, self._preserve))
        self._views(effect, found, where)
        if not self._preserve:
            return False
        if found.inherits:
            self.kept.unknown.append(f"{where} inherits from another table: it is dropped and not kept")
            self.kept.losses[-1] = Loss(f"drops the table {where}", count, kept=False)
            return False
        if effect.cascade:
            for told in found.referring:
                self._run(told, keeps=True)
            for view, kind in found.views:
                self._run(f"DROP {'MATERIALIZED ' if kind == 'm' else ''}VIEW IF EXISTS {view} CASCADE", keeps=True)
        else:
            self._run(_NOTHING_DEPENDS.format(table=literal(where)), keeps=True)
        # What is kept must neither hold others back nor act by itself.
        for constraint in found.foreign_keys:
            self._run(f"ALTER TABLE {where} DROP CONSTRAINT IF EXISTS {constraint}", keeps=True)
        for trigger in found.triggers:
            self._run(f"DROP TRIGGER IF EXISTS {trigger} ON {where}", keeps=True)
        for child in found.children:
            if (of := await self._lookup(child, None)) is not None:
                self._aside("TABLE", _name_of(child), of.belongings)
        keep = self._aside("TABLE", Name(name.name, name.schema or found.schema_name), found.belongings)
        self._record(
            "table",
            where,
            (),
            keep,
            lambda now: [self._insert(name, found, keep, now), *self._serials(name, found, now)],
        )
        return True

    def _move_aside(self, kind: str, effect: Effect, name: Name) -> bool:
        """What is kept may still be of this type, so it is not dropped but moved as well."""
        if effect.cascade:
            self.kept.unknown.append(f"it is not known what goes with the {kind.lower()} {name}")
        if effect.cascade or effect.if_exists or not self._preserve:
            return False  # where something that is kept still needs it, the server refuses
        self._aside(kind, name)
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

    async def _values(self, effect: Effect, name: Name) -> None:
        columns = tuple(c for c in effect.columns if (str(name), c) not in self._added)
        if not columns or str(name) in self._made:
            return
        found = await self._table(name, columns)
        if found is None:
            self._missing(effect, name)
            return
        if effect.does == "updates rows":
            await self._keep_columns(name, found, columns, "overwrites", effect.where)
            return
        (column,) = columns
        now = found.column(self._now_column(name, column))
        if now is None:
            self.kept.unknown.append(f"there is no column {quoted(column)} in {name} now")
        elif not _widens(now.type, effect.to):
            self._views(effect, found, str(name))
            await self._keep_columns(name, found, columns, f"turns into {effect.to.lower()}", as_text=True)

    async def _keep_columns(
        self, name: Name, found: Table, columns: tuple[str, ...], verb: str, where: str = "", as_text: bool = False
    ) -> None:
        if not columns:
            return
        if found.kind == "r" and found.children and not where:
            for child in found.children:
                if (of := await self._lookup(child, columns)) is not None:
                    alone = of.model_copy(update={"children": ()})
                    await self._keep_columns(_name_of(child), alone, columns, verb, as_text=as_text)
        told = {self._now_column(name, c): c for c in columns}
        facts = [c for c in found.columns if c.name in told]
        only = "ONLY " if found.kind == "r" else ""
        source, now = f"{only}{name}", f"{only}{self._now(str(name))}"
        condition = f" WHERE {where}" if where else ""
        key = () if set(found.key) & set(told) else found.key
        values = " + ".join(f"count({quoted(c.name)})" for c in facts) or "count(*)"
        what = f"{verb} {', '.join(f'{name}.{quoted(c)}' for c in columns)}"
        if where:
            what = f"overwrites {', '.join(quoted(c) for c in columns)} of {name} where {shortened(where)}"
        self.kept.losses.append(Loss(what, f"SELECT {values} FROM {now}{condition}", self._preserve, returns=bool(key)))
        if not self._preserve:
            return
        keep = self._name(found.name)
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
        called = tuple(c.name for c in facts)
        self._record("columns", str(name), called, keep, update, gently=gently if back else "")

    async def _rows(self, effect: Effect, name: Name) -> None:
        found = await self._table(name)
        if found is None:
            self._missing(effect, name)
            return
        condition = f" WHERE {effect.where}" if effect.where else ""
        which = f" where {shortened(effect.where)}" if effect.where else ""
        count = f"SELECT count(*) FROM {self._now(str(name))}{condition}"
        self.kept.losses.append(Loss(f"deletes rows of {name}{which}", count, self._preserve))
        # The farthest first: they are brought back in the other order, and need what they refer to.
        for other in found.follow:  # foreign keys that delete or change rows along with these
            self.kept.losses.append(Loss(f"rows of {other} go or change with them", "", self._preserve))
            if (of := await self._lookup(other, None)) is not None:
                await self._keep_rows(_name_of(other), of, "")
        await self._keep_rows(name, found, condition)

    async def _keep_rows(self, name: Name, found: Table, condition: str) -> None:
        if not self._preserve:
            return
        keep = self._name(found.name)
        self._run(f"CREATE TABLE {KEEP}.{quoted(keep)} AS SELECT * FROM {name}{condition}", keeps=True)
        # Rows of heirs are among them, and nobody could tell any more which those were.
        mixed = found.kind == "r" and bool(found.children)
        self._record("rows", str(name), (), keep, lambda now: [] if mixed else [self._insert(name, found, keep, now)])

    # --- names and the record -----------------------------------------------------------------------------------------
    def _now(self, table: str) -> str:
        return self._names.get(table, table)

    def _now_column(self, name: Name, column: str) -> str:
        return self._columns.get((str(name), column), column)

    def _then(self, name: Name) -> dict[str, str]:
        """What the columns are called when the statement runs, by what they are called now."""
        return {now: then for (table, then), now in self._columns.items() if table == str(name)}

    def _serials(self, name: Name, found: Table, now: bool) -> list[str]:
        """Numbers that were given out are not given out again."""
        table, called = (self._now(str(name)), {}) if now else (str(name), self._then(name))
        columns = [called.get(c.name, c.name) for c in found.columns if c.serial]
        return [
            f"SELECT setval(pg_get_serial_sequence({literal(table)}, {literal(c)}),"
            f" greatest(max({quoted(c)})::bigint, 1)) FROM {table}"
            for c in columns
        ]

    def _insert(self, name: Name, found: Table, keep: str, now: bool) -> str:
        """Generated columns are made again; a type of the user's own may be another of that name by then."""
        then, taken = self._then(name), [c for c in found.columns if not c.generated]
        table, called = (self._now(str(name)), {}) if now else (str(name), then)
        names = ", ".join(quoted(called.get(c.name, c.name)) for c in taken)
        values = ", ".join(_cast(c, then.get(c.name, c.name)) for c in taken)
        return (
            f"INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE SELECT {values}"
            f" FROM {KEEP}.{quoted(keep)} AS k ON CONFLICT DO NOTHING"
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


_NOTHING_DEPENDS = (
    "DO $check$ BEGIN IF EXISTS (SELECT FROM pg_constraint WHERE contype = 'f' AND confrelid = {table}::regclass"
    " AND conrelid <> confrelid) OR EXISTS (SELECT FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid"
    " AND d.classid = 'pg_rewrite'::regclass WHERE d.refobjid = {table}::regclass AND r.ev_class <> d.refobjid)"
    " THEN RAISE EXCEPTION USING ERRCODE = '2BP01', MESSAGE = 'cannot drop ' || {table} ||"
    " ' because other objects depend on it'; END IF; END $check$"
)

PREPARE = (
    f"CREATE TABLE IF NOT EXISTS {KEEP}.kept (execution text, number int, what text NOT NULL, source text NOT NULL,"
    " columns text[] NOT NULL, keep text NOT NULL, back text NOT NULL, gently text NOT NULL,"
    " at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (execution, number))"
)


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

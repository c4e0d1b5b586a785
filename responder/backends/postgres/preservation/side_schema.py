"""The side schema: preserves data in the transaction that destroys it, and records the SQL that restores it."""

from __future__ import annotations

from collections.abc import Callable

from responder.backends.postgres.catalog import KEEP, Table
from responder.backends.postgres.ddl.objects import dropped_objects
from responder.backends.postgres.foreign_keys import CHECK_FOREIGN_KEYS, defer_foreign_keys
from responder.backends.postgres.migration_path import Command
from responder.backends.postgres.preservation.moving_sql import detach, drop_range, move_object, move_table
from responder.backends.postgres.preservation.restoring_sql import only
from responder.backends.postgres.preservation.script_names import ScriptNames
from responder.backends.postgres.sql import Name, literal, quoted
from responder.backends.postgres.triggers import ENABLE_TRIGGERS, silence_triggers

Restore = Callable[[bool], list[str]]
"""The SQL that restores something: by the names before the script for True, before its step for False."""

_TRY_DROP = (
    "DO $rollback_try$ BEGIN BEGIN {drop}; RAISE SQLSTATE 'RB001'; EXCEPTION WHEN SQLSTATE 'RB001' THEN NULL; END;"
    " END $rollback_try$"
)
_TYPE_OBJECTS = "SELECT 'pg_type'::regclass, unnest(ARRAY[oid, typarray]) FROM pg_type WHERE oid = to_regtype({copy})"
_TABLE_OBJECTS = (
    "SELECT 'pg_class'::regclass, to_regclass({copy})::oid"
    " UNION ALL SELECT classid, objid FROM pg_depend WHERE refclassid = 'pg_class'::regclass"
    " AND refobjid = to_regclass({copy}) AND classid = 'pg_class'::regclass AND deptype IN ('a', 'i')"
    " UNION ALL SELECT 'pg_type'::regclass, unnest(ARRAY[oid, typarray]) FROM pg_type"
    " WHERE typrelid = to_regclass({copy})"
)
"""The table, the sequences of its columns, and the type of its rows."""

_REQUIRE_UNREFERENCED = (
    "DO $rollback_needs$ DECLARE needed_by text; BEGIN SELECT string_agg(DISTINCT o.type || ' ' || o.identity, ', ')"
    " INTO needed_by FROM pg_depend d, pg_identify_object(d.classid, d.objid, d.objsubid) o"
    " WHERE d.deptype = 'n' AND (d.refclassid, d.refobjid) IN ({objects})"
    " AND o.identity !~ '^(for |.* on )?rollback_keep[.]';"
    " IF needed_by IS NOT NULL THEN RAISE EXCEPTION USING ERRCODE = '2BP01', MESSAGE = {message} || needed_by; END IF;"
    " END $rollback_needs$"
)

PREPARE = (
    f"CREATE TABLE IF NOT EXISTS {KEEP}.preserved (execution text, number int, kind text NOT NULL,"
    " source text NOT NULL, columns text[] NOT NULL, copy text NOT NULL, restore_sql text NOT NULL,"
    " fill_sql text NOT NULL, at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (execution, number))"
)


class SideSchema:
    """Appends the commands that preserve data, in the order in which they run."""

    def __init__(self, execution: str, commands: list[Command], names: ScriptNames) -> None:
        self._execution, self._commands, self._names = execution, commands, names
        self._copies = self._records = 0
        self._restore_rows: list[str] = []
        self._restore_values: list[str] = []
        self._sources: list[str] = []

    def restore_statements(self) -> list[str]:
        """The SQL that restores everything recorded since the last call: rows first, as values may refer to them."""
        statements, sources = [*self._restore_rows, *self._restore_values], self._sources
        self._restore_rows, self._restore_values, self._sources = [], [], []
        if not statements:
            return []
        if len(statements) > 1:
            statements = [*defer_foreign_keys(sources), *statements, *CHECK_FOREIGN_KEYS]
        return [silence_triggers(sources), *statements, ENABLE_TRIGGERS]

    def run(self, sql: str, *, standalone: bool = False, index: str = "", preserves: bool = False) -> None:
        """Appends a command of the script, or one that `preserves` what the script destroys."""
        self._commands.append(Command(sql=sql, standalone=standalone, index=index, preserves=preserves))

    def try_drop(self, drop: str) -> None:
        """Lets PostgreSQL check the DROP and rolls it back: moving a table does not check its dependents."""
        self.run(_TRY_DROP.format(drop=drop), preserves=True)

    def new_name(self, table: str) -> str:
        """A unique name in the side schema, cut to the 63 bytes of PostgreSQL."""
        self._copies += 1
        return f"{self._execution}_{self._copies}_{table}".encode()[:63].decode(errors="ignore")

    def copy_rows(self, name: Name, table: Table, where: str = "", alias: str = "") -> str:
        """Copies the rows of a table and returns the name of the copy."""
        copy, named = self.new_name(table.name), f" AS {quoted(alias)}" if alias else ""
        condition = f" WHERE {where}" if where else ""
        self.lock(name)
        self.run(
            f"CREATE TABLE {KEEP}.{quoted(copy)} AS SELECT * FROM {only(table)}{name}{named}{condition}",
            preserves=True,
        )
        return copy

    def lock(self, name: Name) -> None:
        """Locks the table: rows written between the copy and the statement would be destroyed and not preserved."""
        self.run(f"LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE", preserves=True)

    def move_table(self, name: Name, *, cascade: bool = False, child_of: str = "") -> str:
        """Moves a table and returns its new name; with `child_of` only while it still inherits from that table."""
        copy = self.new_name(name.name)
        prefix = f"{self._execution}_{self._copies}"
        self.run(move_table(name, copy, prefix, cascade=cascade, child_of=child_of), preserves=True)
        return copy

    def move_object(self, kind: str, name: Name, *, if_exists: bool) -> str:
        """Moves a TYPE or a SEQUENCE and returns its new name."""
        copy = self.new_name(name.name)
        self.run(move_object(kind, name, copy, if_exists=if_exists), preserves=True)
        if kind == "TYPE":
            self.run(detach("TYPE", (name,)), preserves=True)
            self.run(drop_range(name), preserves=True)
        return copy

    def clear_type(self, name: Name) -> list[str]:
        """Statements that move a type that a downgrade left behind, so that the upgrade can create it again."""
        copy = self.new_name(name.name)
        return [
            move_object("TYPE", name, copy, if_exists=True),
            detach("TYPE", (name,)),
            drop_range(name),
            _require_unreferenced("TYPE", str(name), copy),
        ]

    def detach(self, sql: str) -> None:
        """Removes the dependencies of preserved data on the objects that a DROP statement names."""
        if named := dropped_objects(sql):
            self._commands.append(Command(sql=detach(*named)))

    def require_unreferenced(self, kind: str, name: str, copy: str) -> None:
        """Fails if a live object depends on the moved one: dropping the side schema would drop it too."""
        self.run(_require_unreferenced(kind, name, copy), preserves=True)

    def record(
        self,
        kind: str,
        name: Name | str,
        columns: tuple[str, ...],
        copy: str,
        restore: Restore,
        *,
        fill_sql: str = "",
        expression: str = "",
    ) -> None:
        """Records how to restore the copy.

        The recorded SQL applies after the whole migration has run again. The plan gets the SQL that applies right
        after this statement is reverted.
        """
        self._records += 1
        source = self._names.original(name)
        sql = expression or literal(";\n".join(restore(True)))
        if_present = f" WHERE to_regclass({literal(f'{KEEP}.{quoted(copy)}')}) IS NOT NULL" if copy else ""
        array = f"ARRAY[{', '.join(map(literal, columns))}]::text[]"
        self.run(
            f"INSERT INTO {KEEP}.preserved (execution, number, kind, source, columns, copy, restore_sql, fill_sql)"
            f" SELECT {literal(self._execution)}, {self._records}, {literal(kind)}, {literal(source)}, {array},"
            f" {literal(copy)}, {sql}, {literal(fill_sql) if fill_sql else sql}{if_present}",
            preserves=True,
        )
        (self._restore_values if kind == "columns" else self._restore_rows)[:0] = restore(False)
        self._sources.append(self._names.at_step_start(name).table)


def _require_unreferenced(kind: str, name: str, copy: str) -> str:
    objects = _TYPE_OBJECTS if kind == "TYPE" else _TABLE_OBJECTS
    message = literal(f"cannot drop {kind.lower()} {name}: it is needed by ")
    return _REQUIRE_UNREFERENCED.format(objects=objects.format(copy=literal(f"{KEEP}.{quoted(copy)}")), message=message)

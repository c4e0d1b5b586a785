"""The side schema: what is put there in the transaction that destroys it, and the record of how it comes back."""

from __future__ import annotations

from collections.abc import Callable

from responder.backends.postgres.catalog import KEEP, Table
from responder.backends.postgres.ddl_parser import dropped_objects
from responder.backends.postgres.foreign_keys import CHECKED, deferred
from responder.backends.postgres.preservation.preserving_sql import move_object, move_table, release
from responder.backends.postgres.preservation.restoring_sql import only
from responder.backends.postgres.schema_revision import Command
from responder.backends.postgres.sql import Name, literal, quoted

Back = Callable[[bool], list[str]]
"""The SQL that brings something back, by the names of now or by those of then."""

_TRIED = (
    "DO $rollback_try$ BEGIN BEGIN {drop}; RAISE SQLSTATE 'RB001'; EXCEPTION WHEN SQLSTATE 'RB001' THEN NULL; END;"
    " END $rollback_try$"
)
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
    "DO $rollback_needs$ DECLARE needed_by text; BEGIN SELECT string_agg(DISTINCT o.type || ' ' || o.identity, ', ')"
    " INTO needed_by FROM pg_depend d, pg_identify_object(d.classid, d.objid, d.objsubid) o"
    " WHERE d.deptype = 'n' AND (d.refclassid, d.refobjid) IN ({of})"
    " AND o.identity !~ '^(for |.* on )?rollback_keep[.]';"
    " IF needed_by IS NOT NULL THEN RAISE EXCEPTION USING ERRCODE = '2BP01', MESSAGE = {message} || needed_by; END IF;"
    " END $rollback_needs$"
)

PREPARE = (
    f"CREATE TABLE IF NOT EXISTS {KEEP}.kept (execution text, number int, what text NOT NULL, source text NOT NULL,"
    " columns text[] NOT NULL, keep text NOT NULL, back text NOT NULL, gently text NOT NULL,"
    " at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (execution, number))"
)


class SideSchema:
    """Writes the commands down, in the order in which they are run."""

    def __init__(self, mark: str, commands: list[Command]) -> None:
        self._mark, self._commands = mark, commands
        self._n = self._records = 0
        self._rows_back: list[str] = []
        self._values_back: list[str] = []
        self._sources: list[str] = []

    def restored(self) -> list[str]:
        """What brings back all that was recorded since the last call: rows before values, which may refer to rows."""
        back, sources = [*self._rows_back, *self._values_back], self._sources
        self._rows_back, self._values_back, self._sources = [], [], []
        return [*deferred(sources), *back, *CHECKED] if len(back) > 1 else back

    def run(self, sql: str, *, alone: bool = False, index: str = "", keeps: bool = False) -> None:
        """A command of the script, or one that `keeps` what the script destroys."""
        self._commands.append(Command(sql=sql, alone=alone, index=index, keeps=keeps))

    def ask(self, drop: str) -> None:
        """Moved away, nothing would be missed: so the server is asked whether it would let it be dropped."""
        self.run(_TRIED.format(drop=drop), keeps=True)

    def name(self, table: str) -> str:
        self._n += 1
        return f"{self._mark}_{self._n}_{table}".encode()[:63].decode(errors="ignore")

    def copy(self, name: Name, found: Table, where: str = "", called: str = "") -> str:
        keep, alias = self.name(found.name), f" AS {quoted(called)}" if called else ""
        condition = f" WHERE {where}" if where else ""
        self.lock(name)
        self.run(
            f"CREATE TABLE {KEEP}.{quoted(keep)} AS SELECT * FROM {only(found)}{name}{alias}{condition}", keeps=True
        )
        return keep

    def lock(self, name: Name) -> None:
        """Nobody writes between the copy and the statement: such rows would be destroyed and not kept."""
        self.run(f"LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE", keeps=True)

    def move_table(self, name: Name, *, cascade: bool = False, heir_of: str = "") -> str:
        """Moves a table away; with `heir_of` only while it still inherits from that one."""
        keep = self.name(name.name)
        mark = f"{self._mark}_{self._n}"
        self.run(move_table(name, keep, mark, cascade=cascade, heir_of=heir_of), keeps=True)
        return keep

    def move_object(self, kind: str, name: Name, *, if_exists: bool) -> str:
        """Moves a TYPE or a SEQUENCE away."""
        keep = self.name(name.name)
        self.run(move_object(kind, name, keep, if_exists=if_exists), keeps=True)
        return keep

    def out_of_the_way(self, name: Name) -> list[str]:
        """Moves a type that a downgrade has left behind, so that the upgrade can create it again."""
        keep = self.name(name.name)
        return [move_object("TYPE", name, keep, if_exists=True), _unneeded("TYPE", str(name), keep)]

    def release(self, sql: str) -> None:
        """Frees what is kept from the objects that a DROP statement names."""
        if named := dropped_objects(sql):
            self._commands.append(Command(sql=release(*named)))

    def unneeded(self, kind: str, expected: str, keep: str) -> None:
        """What lives must not need what is kept, or it would go with the side schema."""
        self.run(_unneeded(kind, expected, keep), keeps=True)

    def record(
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
        sql = expression or literal(";\n".join(back(True)))
        there = f" WHERE to_regclass({literal(f'{KEEP}.{quoted(keep)}')}) IS NOT NULL" if keep else ""
        array = f"ARRAY[{', '.join(map(literal, columns))}]::text[]"
        self.run(
            f"INSERT INTO {KEEP}.kept (execution, number, what, source, columns, keep, back, gently) SELECT"
            f" {literal(self._mark)}, {self._records}, {literal(what)}, {literal(source)}, {array}, {literal(keep)},"
            f" {sql}, {literal(gently) if gently else sql}{there}",
            keeps=True,
        )
        (self._values_back if what == "columns" else self._rows_back)[:0] = back(False)
        self._sources.append(source)


def _unneeded(kind: str, expected: str, keep: str) -> str:
    objects = _OF_TYPE if kind == "TYPE" else _OF_TABLE
    message = literal(f"{kind.lower()} {expected} cannot be dropped, as it is needed by ")
    return _UNNEEDED.format(of=objects.format(keep=literal(f"{KEEP}.{quoted(keep)}")), message=message)

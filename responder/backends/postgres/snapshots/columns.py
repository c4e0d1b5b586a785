"""Restores values of columns from a snapshot into the live table: by primary key, in one transaction."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any, NamedTuple

from responder.backends.postgres.client import Postgres
from responder.backends.postgres.snapshots import checksums
from responder.backends.postgres.snapshots.manifest import Archive, SnapshotManifest
from responder.backends.postgres.snapshots.restore import OFFLINE, table_options
from responder.backends.postgres.snapshots.store import SnapshotStore
from responder.backends.postgres.snapshots.streams import pipe
from responder.backends.postgres.sql import quoted
from responder.backends.postgres.triggers import ENABLE_TRIGGERS, silence_triggers
from responder.errors import StepFailed
from responder.transport.acting import acting

_COPY = "pg_temp.rollback_copy"

_KEY = """
SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
WHERE i.indrelid = $1::text::regclass AND i.indisprimary ORDER BY a.attnum
"""
_COLUMNS = """
SELECT attname, format_type(atttypid, atttypmod) AS type FROM pg_attribute
WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped
"""


class RestoredColumns(NamedTuple):
    """What happened to the rows of the snapshot."""

    rows: int  # in the snapshot
    updated: int
    missing: int  # no longer in the table
    different: int  # have other values in the table afterwards


async def restore_columns(
    postgres: Postgres,
    store: SnapshotStore,
    manifest: SnapshotManifest,
    database: str,
    table: str,
    columns: Sequence[str],
    *,
    overwrite: bool,
    dry_run: bool = False,
) -> RestoredColumns:
    """Fills NULLs of the columns; with `overwrite` it replaces every different value. With `dry_run` it rolls back.

    Triggers of the table do not fire: they would reject or replace the values, or repeat their effects.
    Raises StepFailed, and changes nothing, if the snapshot or the table lacks a column.
    """
    if manifest.encoding != "UTF8":
        raise StepFailed(f"{manifest.key} has the encoding {manifest.encoding}: columns can be restored from UTF8 only")
    # Constraints and indexes may call functions that need the usual search_path.
    async with checksums.session(postgres, database, lock_timeout="5s", search_path=None) as connection:
        await checksums.tables_of(connection, [table])  # raises StepFailed if it does not exist
        transaction = connection.transaction()
        await transaction.start()
        key = [row["attname"] for row in await connection.fetch(_KEY, table)]
        if not key:
            raise StepFailed(f"{table} has no primary key, which identifies the rows")
        types = {row["attname"]: row["type"] for row in await connection.fetch(_COLUMNS, table)}
        if missing := [column for column in columns if column not in types]:
            raise StepFailed(f"{table} has no column {', '.join(missing)}: migrate the schema first")
        await _load_copy(connection, postgres, store, manifest, database, table, [*key, *columns], types)
        await connection.execute(silence_triggers([table]))
        result = await _update(connection, table, key, columns, overwrite=overwrite)
        await connection.execute(ENABLE_TRIGGERS)
        acting.get()()
        await (transaction.rollback() if dry_run else transaction.commit())
    return result


async def _load_copy(
    connection: Any,
    postgres: Postgres,
    store: SnapshotStore,
    manifest: SnapshotManifest,
    database: str,
    table: str,
    columns: Sequence[str],
    types: dict[str, str],
) -> None:
    """Loads the rows of the table and its partitions from the snapshot into a temporary table."""
    loaded = False
    for chosen in await table_options(postgres, database, None, [table]):
        for archive in (entry for entry in manifest.archives if entry.section == "data"):
            argv = ["pg_restore", "--data-only", "--file=-", *chosen]
            async with contextlib.aclosing(_script(store, manifest, archive, argv)) as script:
                async for copy in Copies(script):
                    names = copy.columns
                    if missing := [column for column in columns if column not in names]:
                        raise StepFailed(f"{manifest.key} has no column {', '.join(missing)} of {table}")
                    if not loaded:
                        shapes = [f"{quoted(n)} {types[n] if n in columns else 'text'}" for n in names]
                        await connection.execute(f"CREATE TEMP TABLE rollback_copy ({', '.join(shapes)})")
                        loaded = True
                    await connection.copy_to_table(
                        "rollback_copy", schema_name="pg_temp", source=copy.rows, columns=names, format="text"
                    )
    if not loaded:
        raise StepFailed(f"{manifest.key} contains no rows of {table}")


async def _script(
    store: SnapshotStore, manifest: SnapshotManifest, archive: Archive, argv: list[str]
) -> AsyncGenerator[bytes]:
    async with (
        contextlib.aclosing(store.read(manifest, archive)) as blocks,
        contextlib.aclosing(pipe(argv, OFFLINE, blocks)) as script,
    ):
        async for block in script:
            yield block


async def _update(
    connection: Any, table: str, key: Sequence[str], columns: Sequence[str], *, overwrite: bool
) -> RestoredColumns:
    names = [quoted(column) for column in columns]
    same_row = " AND ".join(f"t.{quoted(column)} = b.{quoted(column)}" for column in key)
    # Compare text: some types have no equality operator.
    differs = " OR ".join(f"t.{name}::text IS DISTINCT FROM b.{name}::text" for name in names)
    fills = " OR ".join(f"t.{name} IS NULL AND b.{name} IS NOT NULL" for name in names)
    sets = ", ".join(f"{name} = b.{name}" if overwrite else f"{name} = coalesce(t.{name}, b.{name})" for name in names)
    await connection.execute(f"ANALYZE {_COPY}")
    rows = await connection.fetchval(f"SELECT count(*) FROM {_COPY}")
    absent = await connection.fetchval(
        f"SELECT count(*) FROM {_COPY} b WHERE NOT EXISTS (SELECT FROM {table} t WHERE {same_row})"
    )
    acting.get()()
    updated = await connection.execute(
        f"UPDATE {table} t SET {sets} FROM {_COPY} b WHERE {same_row} AND ({differs if overwrite else fills})"
    )
    different = await connection.fetchval(
        f"SELECT count(*) FROM {_COPY} b JOIN {table} t ON {same_row} WHERE {differs}"
    )
    return RestoredColumns(rows, int(updated.rpartition(" ")[2]), absent, different)


class Copied(NamedTuple):
    """One COPY command of a script: its columns, and its rows as raw text."""

    columns: list[str]
    rows: AsyncIterator[bytes]


_COPY_COMMAND = re.compile(rb'(?:^|\n)COPY (?:"(?:[^"]|"")*"|[^\s"]+?)+ \((?P<columns>.*)\) FROM stdin;\n')
_COLUMN = re.compile(r'"((?:[^"]|"")*)"|([^\s,"]+)')


class Copies:
    """The COPY commands of a script of pg_restore. Read the rows of each before the next one."""

    def __init__(self, script: AsyncIterator[bytes]) -> None:
        self._script, self._ahead = script, b""

    def __aiter__(self) -> Copies:
        return self

    async def __anext__(self) -> Copied:
        while not (found := _COPY_COMMAND.search(self._ahead)):
            # Discard everything before the last line: it cannot contain the start of a COPY.
            line = self._ahead.rfind(b"\n")
            self._ahead = self._ahead[max(line, 0) :]
            self._ahead += await anext(self._script)
        self._ahead = b"\n" + self._ahead[found.end() :]
        columns = [a.replace('""', '"') if a else b for a, b in _COLUMN.findall(found["columns"].decode())]
        return Copied(columns, self._rows())

    async def _rows(self) -> AsyncIterator[bytes]:
        first = True
        while (end := self._ahead.find(b"\n\\.\n")) < 0:
            if len(self._ahead) > 4:
                ready, self._ahead = self._ahead[:-4], self._ahead[-4:]
                yield ready[1:] if first else ready
                first = False
            try:
                self._ahead += await anext(self._script)
            except StopAsyncIteration:
                raise StepFailed("the script of pg_restore ends within the rows of a table") from None
        rest, self._ahead = self._ahead[: end + 1], self._ahead[end + 3 :]
        if rest := rest[1:] if first else rest:
            yield rest

"""Values of some columns, back from a snapshot into the table that lives: by primary key, in one transaction."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any, NamedTuple

from responder.backends.postgres.client import Postgres
from responder.backends.postgres.snapshots import checksums
from responder.backends.postgres.snapshots.checksums import quoted
from responder.backends.postgres.snapshots.manifest import Archive, Manifest
from responder.backends.postgres.snapshots.restore import OFFLINE, choices
from responder.backends.postgres.snapshots.store import Shelf
from responder.backends.postgres.snapshots.streams import through
from responder.errors import StepFailed
from responder.transport.acting import acting

_BACK = "pg_temp.rollback_back"

_KEY = """
SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
WHERE i.indrelid = $1::text::regclass AND i.indisprimary ORDER BY a.attnum
"""
_COLUMNS = """
SELECT attname, format_type(atttypid, atttypmod) AS type FROM pg_attribute
WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped
"""


class BroughtBack(NamedTuple):
    """What became of the rows that the snapshot has."""

    rows: int
    updated: int
    gone: int  # have no row in the table any more
    kept: int  # have another value in the table, which stays without `overwrite`


async def bring_back(
    postgres: Postgres,
    shelf: Shelf,
    manifest: Manifest,
    database: str,
    table: str,
    columns: Sequence[str],
    *,
    overwrite: bool,
    dry_run: bool = False,
) -> BroughtBack:
    """Fills the columns where they are NULL, or with `overwrite` wherever they differ. Raises Halt and changes nothing
    where the snapshot or the table does not have them.
    """
    if manifest.encoding != "UTF8":
        raise StepFailed(f"{manifest.key} is of a database in {manifest.encoding}: columns come back from UTF8 only")
    async with checksums.session(postgres, database, lock_timeout="5s") as connection:
        await checksums.tables_of(connection, [table])  # tells in one sentence where there is none
        begun = connection.transaction()
        await begun.start()
        key = [row["attname"] for row in await connection.fetch(_KEY, table)]
        if not key:
            raise StepFailed(f"{table} has no primary key to find its rows by")
        types = {row["attname"]: row["type"] for row in await connection.fetch(_COLUMNS, table)}
        if missing := [column for column in columns if column not in types]:
            raise StepFailed(f"{table} has no column {', '.join(missing)}: bring the schema back first")
        await _copied(connection, postgres, shelf, manifest, database, table, [*key, *columns], types)
        result = await _updated(connection, table, key, columns, overwrite=overwrite)
        acting.get()()
        await (begun.rollback() if dry_run else begun.commit())
    return result


async def _copied(
    connection: Any,
    postgres: Postgres,
    shelf: Shelf,
    manifest: Manifest,
    database: str,
    table: str,
    wanted: Sequence[str],
    types: dict[str, str],
) -> None:
    """All rows that the snapshot has of the table and its partitions, in a table that goes with the session."""
    made: set[str] = set()
    for chosen in await choices(postgres, database, None, [table]):
        for archive in (entry for entry in manifest.archives if entry.section == "data"):
            argv = ["pg_restore", "--data-only", "--file=-", *chosen]
            async with contextlib.aclosing(_script(shelf, manifest, archive, argv)) as script:
                async for copy in Copies(script):
                    names = copy.columns
                    if missing := [column for column in wanted if column not in names]:
                        raise StepFailed(f"{table} has no column {', '.join(missing)} in {manifest.key}")
                    if not made:
                        shapes = [f"{quoted(n)} {types[n] if n in wanted else 'text'}" for n in names]
                        await connection.execute(f"CREATE TEMP TABLE rollback_back ({', '.join(shapes)})")
                        made = set(names)
                    await connection.copy_to_table(
                        "rollback_back", schema_name="pg_temp", source=copy.rows, columns=names, format="text"
                    )
    if not made:
        raise StepFailed(f"{manifest.key} has no rows of {table}")


async def _script(shelf: Shelf, manifest: Manifest, archive: Archive, argv: list[str]) -> AsyncGenerator[bytes]:
    async with (
        contextlib.aclosing(shelf.read(manifest, archive)) as blocks,
        contextlib.aclosing(through(argv, OFFLINE, blocks)) as script,
    ):
        async for block in script:
            yield block


async def _updated(
    connection: Any, table: str, key: Sequence[str], columns: Sequence[str], *, overwrite: bool
) -> BroughtBack:
    names = [quoted(column) for column in columns]
    same_row = " AND ".join(f"t.{quoted(column)} = b.{quoted(column)}" for column in key)
    # As text: not every type knows what is equal.
    differs = " OR ".join(f"t.{name}::text IS DISTINCT FROM b.{name}::text" for name in names)
    fills = " OR ".join(f"t.{name} IS NULL AND b.{name} IS NOT NULL" for name in names)
    sets = ", ".join(f"{name} = b.{name}" if overwrite else f"{name} = coalesce(t.{name}, b.{name})" for name in names)
    await connection.execute(f"ANALYZE {_BACK}")
    rows = await connection.fetchval(f"SELECT count(*) FROM {_BACK}")
    gone = await connection.fetchval(
        f"SELECT count(*) FROM {_BACK} b WHERE NOT EXISTS (SELECT FROM {table} t WHERE {same_row})"
    )
    acting.get()()
    done = await connection.execute(
        f"UPDATE {table} t SET {sets} FROM {_BACK} b WHERE {same_row} AND ({differs if overwrite else fills})"
    )
    kept = await connection.fetchval(f"SELECT count(*) FROM {_BACK} b JOIN {table} t ON {same_row} WHERE {differs}")
    return BroughtBack(rows, int(done.rpartition(" ")[2]), gone, kept)


class Copied(NamedTuple):
    """One COPY of a script: its columns, and its rows as they stand there."""

    columns: list[str]
    rows: AsyncIterator[bytes]


_COPY = re.compile(rb'(?:^|\n)COPY (?:"(?:[^"]|"")*"|[^\s"]+?)+ \((?P<columns>.*)\) FROM stdin;\n')
_COLUMN = re.compile(r'"((?:[^"]|"")*)"|([^\s,"]+)')


class Copies:
    """The COPY commands of a script that pg_restore writes. The rows of each are to be read before the next one."""

    def __init__(self, script: AsyncIterator[bytes]) -> None:
        self._script, self._ahead = script, b""

    def __aiter__(self) -> Copies:
        return self

    async def __anext__(self) -> Copied:
        while not (found := _COPY.search(self._ahead)):
            # What cannot be the beginning of a COPY any more is let go.
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
                raise StepFailed("the rows of a table are cut short") from None
        rest, self._ahead = self._ahead[: end + 1], self._ahead[end + 3 :]
        if rest := rest[1:] if first else rest:
            yield rest

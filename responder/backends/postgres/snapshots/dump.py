"""A consistent snapshot: several pg_dump streams under one exported snapshot, straight into the store."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict

from responder.backends.postgres.client import Postgres
from responder.backends.postgres.snapshots import checksums
from responder.backends.postgres.snapshots.checksums import Table
from responder.backends.postgres.snapshots.gathering import together
from responder.backends.postgres.snapshots.manifest import Archive, Counted, Manifest
from responder.backends.postgres.snapshots.store import Shelf
from responder.backends.postgres.snapshots.streams import given_by
from responder.backends.postgres.snapshots.verify import compare_restored, read_back
from responder.errors import StepFailed, Unavailable
from responder.transport.acting import acting
from responder.transport.programs import version_output

_LOCK_WAIT_MS = 5000
_NAMED_AT_MOST = 2000
"""Tables that are named on command lines, the largest; all others are in the archive that names what it leaves out."""


class Wanted(BaseModel):
    """What a snapshot should hold, and how sure of it one wants to be."""

    model_config = ConfigDict(frozen=True)

    key: str
    database: str
    tables: tuple[str, ...] = ()
    jobs: int = 2
    compress: int = 1
    scratch: str | None = None  # where it is restored for comparison; None: it is only read back
    hash_whole_up_to: int = 10 << 30


class _Source(NamedTuple):
    """The database under the exported snapshot."""

    snapshot: str
    tables: tuple[Table, ...]
    views: tuple[str, ...]
    server: str
    at: datetime
    encoding: str
    collate: str
    ctype: str


async def make(postgres: Postgres, shelf: Shelf, wanted: Wanted) -> Manifest:
    """Makes it from scratch, reads it back, and only then says that it is there. Raises Halt and Unavailable."""
    began = datetime.now(UTC)
    _, program = await asyncio.to_thread(version_of, "pg_dump")
    acting.get()()
    await shelf.store.clear(f"{wanted.key}/")  # of an earlier try; there is no manifest, or we were not called
    # A late write of an earlier try goes where nobody looks.
    prefix = f"{wanted.key}/{secrets.token_hex(4)}"
    async with _held(postgres, wanted) as (connection, source):
        with postgres.environment(wanted.database, application="rollback-responder snapshot") as env:
            dumps = [
                _archive(shelf, f"{prefix}/{name}.dump", section, argv, env)
                for name, section, argv in _archives(wanted, source)
            ]
            *archives, counts = await together(*dumps, _count(connection, wanted, source))
        # The locks were held to the end, so no definition changed under the dumps.
        await connection.fetchval("SELECT 1")
    made = [archive for archive in archives if isinstance(archive, Archive)]
    manifest = Manifest(
        key=wanted.key,
        database=wanted.database,
        made_at=source.at,
        took_seconds=0.0,
        server=source.server,
        pg_dump=program,
        encoding=source.encoding,
        collate=source.collate,
        ctype=source.ctype,
        tables=tuple(table.name for table in source.tables) if wanted.tables else None,
        materialized_views=source.views,
        archives=tuple(made),
        counted=tuple(counts) if isinstance(counts, list) else (),
        encrypted_with=shelf.key.id if shelf.key else None,
        verified="read",
        verified_at=began,
    )
    await read_back(shelf, manifest, jobs=wanted.jobs)
    if wanted.scratch:
        await compare_restored(postgres, shelf, manifest, wanted.scratch, jobs=wanted.jobs)
    now = datetime.now(UTC)
    manifest = manifest.model_copy(
        update={
            "verified": "restore" if wanted.scratch else "read",
            "verified_at": now,
            "took_seconds": round((now - began).total_seconds(), 3),
        }
    )
    await shelf.write(manifest)
    return manifest


@contextlib.asynccontextmanager
async def _held(postgres: Postgres, wanted: Wanted) -> AsyncIterator[tuple[Any, _Source]]:
    """A transaction that exports its snapshot and keeps every table as it is defined."""
    async with checksums.session(postgres, wanted.database, lock_timeout=f"{_LOCK_WAIT_MS}ms") as connection:
        wants = wanted.tables or None
        for _ in range(5):
            tables = await checksums.tables_of(connection, wants)
            refuse_unreadable(tables, wanted.database)
            begun = connection.transaction(isolation="repeatable_read")
            await begun.start()
            # Locked before the snapshot is taken: whatever is dropped in between is not in it.
            for at in range(0, len(tables), 500):
                names = ", ".join(f"ONLY {table.name}" for table in tables[at : at + 500])
                await _lock(connection, names)
            snapshot = await connection.fetchval("SELECT pg_export_snapshot()")
            under_it = await checksums.tables_of(connection, wants)
            if {t.oid for t in under_it} <= {t.oid for t in tables}:
                break
            await begun.rollback()  # a table was made meanwhile
        else:
            raise Unavailable(f"new tables keep appearing in {wanted.database}")
        row = await connection.fetchrow(
            "SELECT current_setting('server_version') AS server, now() AS at, "
            "pg_encoding_to_char(encoding) AS encoding, datcollate AS collate, "
            "datctype AS ctype FROM pg_database WHERE datname = current_database()"
        )
        views = await checksums.materialized_views_of(connection)
        yield connection, _Source(snapshot, under_it, views, **dict(row))
        await begun.rollback()


async def _lock(connection: Any, names: str) -> None:
    try:
        await connection.execute(f"LOCK TABLE {names} IN ACCESS SHARE MODE")
    except Exception as e:
        if getattr(e, "sqlstate", "") in ("42P01", "3F000"):
            raise Unavailable("a table was dropped while its snapshot began") from e
        raise


def refuse_unreadable(tables: Sequence[Table], database: str) -> None:
    """Raises Halt where rows would be missing from a dump."""
    if closed := [table.name for table in tables if not table.readable]:
        raise StepFailed(f"the role for {database} may not read {', '.join(closed[:5])}: grant it pg_read_all_data")
    if hidden := [table.name for table in tables if table.hidden]:
        raise StepFailed(
            f"row-level security hides rows of {', '.join(hidden[:5])} from the role for {database}: "
            "use their owner, or a role with BYPASSRLS"
        )


def _archives(wanted: Wanted, source: _Source) -> list[tuple[str, str, list[str]]]:
    """Name, section and command of each archive: the schema, and the data in as many as there are jobs."""
    common = [
        "pg_dump",
        "--format=custom",
        "--no-password",
        f"--compress={wanted.compress}",
        f"--snapshot={source.snapshot}",
        f"--lock-wait-timeout={_LOCK_WAIT_MS}",
    ]
    made = [("schema", "schema", [*common, "--schema-only"])]
    groups = _in_groups(source.tables[:], wanted.jobs)
    named = groups if wanted.tables else groups[1:]
    for number, group in enumerate(named, start=1):
        only = [f"--table={table.name}" for table in group]
        made.append((f"data-{number:02}", "data", [*common, "--data-only", "--no-blobs", "--strict-names", *only]))
    if not wanted.tables:  # all that was not named, whatever it is: large objects and sequences as well
        others = [f"--exclude-table={table.name}" for group in named for table in group]
        made.append(("data-00", "data", [*common, "--data-only", "--blobs", *others]))
    return made


def _in_groups(tables: tuple[Table, ...], jobs: int) -> list[list[Table]]:
    """As even as the sizes allow, each largest table to the smallest group. The first also gets all small ones."""
    by_size = sorted(tables, key=lambda table: table.size, reverse=True)
    groups: list[list[Table]] = [[] for _ in range(max(jobs, 1))]
    sizes = [0] * len(groups)
    sizes[0] = sum(table.size for table in by_size[_NAMED_AT_MOST:])
    for table in by_size[:_NAMED_AT_MOST]:
        smallest = sizes.index(min(sizes))
        groups[smallest].append(table)
        sizes[smallest] += table.size + 8192
    groups[0] += by_size[_NAMED_AT_MOST:]
    return [groups[0], *(group for group in groups[1:] if group)]


async def _archive(shelf: Shelf, name: str, section: str, argv: list[str], env: Mapping[str, str]) -> Archive:
    async with contextlib.aclosing(given_by(argv, env)) as blocks:
        return await shelf.add(name, section, blocks)


async def _count(connection: Any, wanted: Wanted, source: _Source) -> list[Counted]:
    """What a restored copy is compared with, under the same snapshot."""
    if not wanted.scratch:
        return []
    found = []
    for table in source.tables:
        one_in = max(1, -(-table.size // wanted.hash_whole_up_to))
        found.append(await checksums.counted(connection, table, one_in))
    if not wanted.tables:
        found.append(await checksums.large_objects(connection))
    return found


def version_of(program: str) -> tuple[int, str]:
    """The major version of an installed program of PostgreSQL, and all of it. Raises Halt where it is not there."""
    if shutil.which(program) is None:
        raise StepFailed(f"{program} is not installed: apt-get install postgresql-client")
    output = version_output(program)
    found = re.search(r"(\d+)(\.\d+)?", output)
    if not found:
        raise StepFailed(f"{program} --version says {output!r}")
    return int(found[1]), found[0]

"""Creates a consistent snapshot: several pg_dump streams under one exported snapshot, written to the store."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from foundation.models import FrozenModel
from responder.backends.postgres.client import Postgres
from responder.backends.postgres.snapshots import checksums
from responder.backends.postgres.snapshots.checksums import CountedTable
from responder.backends.postgres.snapshots.concurrency import gather_or_cancel
from responder.backends.postgres.snapshots.manifest import SnapshotManifest, TableChecksum
from responder.backends.postgres.snapshots.restore import OFFLINE
from responder.backends.postgres.snapshots.store import Added, SnapshotStore
from responder.backends.postgres.snapshots.streams import output_of, read_along
from responder.backends.postgres.snapshots.verify import READ, compare_restored, read_back
from responder.errors import StepFailed, Unavailable
from responder.transport.acting import acting
from responder.transport.programs import version_output

_LOCK_WAIT_MS = 5000
_NAMED_AT_MOST = 2000
"""Most tables on command lines, the largest ones. The others are in the archive that excludes the named ones."""


class SnapshotRequest(FrozenModel):
    """What a snapshot contains, and how it is verified."""

    key: str
    database: str
    tables: tuple[str, ...] = ()
    jobs: int = 2
    compress: int = 1
    scratch: str | None = None  # database on whose server it is restored and compared; None: it is only read
    full_hash_up_to: int = 10 << 30  # bytes; larger tables are hashed by sample


class _Source(NamedTuple):
    """The database under the exported snapshot."""

    snapshot: str
    tables: tuple[CountedTable, ...]
    views: tuple[str, ...]
    server: str
    at: datetime
    encoding: str
    collate: str
    ctype: str


async def create_snapshot(postgres: Postgres, store: SnapshotStore, request: SnapshotRequest) -> SnapshotManifest:
    """Creates the snapshot, verifies it, and then writes its manifest. Raises StepFailed and Unavailable."""
    began = datetime.now(UTC)
    acting.get()()
    (_, pg_dump), _ = await asyncio.gather(
        asyncio.to_thread(program_version, "pg_dump"),
        store.objects.clear(f"{request.key}/"),  # of an earlier attempt, which wrote no manifest
    )
    # A late write of an earlier attempt has another prefix.
    prefix = f"{request.key}/{secrets.token_hex(4)}"
    async with _exported(postgres, request) as (connection, source):
        with postgres.environment(request.database, application="rollback-responder snapshot") as env:
            dumps = [
                _archive(store, f"{prefix}/{name}.dump", section, argv, env)
                for name, section, argv in _archives(request, source)
            ]
            *archives, found = await gather_or_cancel(*dumps, _checksums(connection, request, source))
        # The locks were held until here, so no definition changed during the dumps.
        await connection.fetchval("SELECT 1")
    written = [added for added in archives if isinstance(added, Added)]
    manifest = SnapshotManifest(
        key=request.key,
        database=request.database,
        made_at=source.at,
        took_seconds=0.0,
        server=source.server,
        pg_dump=pg_dump,
        encoding=source.encoding,
        collate=source.collate,
        ctype=source.ctype,
        tables=tuple(table.name for table in source.tables) if request.tables else None,
        materialized_views=source.views,
        archives=tuple(added.archive for added in written),
        checksums=tuple(found) if isinstance(found, list) else (),
        encrypted_with=store.key.id if store.key else None,
        verified="read",
        verified_at=began,
    )
    await read_back(store, manifest, [added.archive for added in written if not added.confirmed])
    if request.scratch:
        await compare_restored(postgres, store, manifest, request.scratch, jobs=request.jobs)
    now = datetime.now(UTC)
    manifest = manifest.model_copy(
        update={
            "verified": "restore" if request.scratch else "read",
            "verified_at": now,
            "took_seconds": round((now - began).total_seconds(), 3),
        }
    )
    await store.write(manifest)
    return manifest


@contextlib.asynccontextmanager
async def _exported(postgres: Postgres, request: SnapshotRequest) -> AsyncIterator[tuple[Any, _Source]]:
    """A transaction that exports its snapshot and locks the definition of every table."""
    async with checksums.session(postgres, request.database, lock_timeout=f"{_LOCK_WAIT_MS}ms") as connection:
        names = request.tables or None
        for _ in range(5):
            tables = await checksums.tables_of(connection, names)
            require_readable(tables, request.database)
            transaction = connection.transaction(isolation="repeatable_read")
            await transaction.start()
            # Lock before the export: a table that is dropped in between is not in the snapshot.
            for at in range(0, len(tables), 500):
                batch = ", ".join(f"ONLY {table.name}" for table in tables[at : at + 500])
                await _lock(connection, batch)
            snapshot = await connection.fetchval("SELECT pg_export_snapshot()")
            exported = await checksums.tables_of(connection, names)
            if {t.oid for t in exported} <= {t.oid for t in tables}:
                break
            await transaction.rollback()  # a table was created meanwhile
        else:
            raise Unavailable(
                f"database {request.database}: new tables appeared in each of 5 attempts to export a snapshot"
            )
        row = await connection.fetchrow(
            "SELECT current_setting('server_version') AS server, now() AS at, "
            "pg_encoding_to_char(encoding) AS encoding, datcollate AS collate, "
            "datctype AS ctype FROM pg_database WHERE datname = current_database()"
        )
        views = await checksums.materialized_views_of(connection)
        yield connection, _Source(snapshot, exported, views, **dict(row))
        await transaction.rollback()


async def _lock(connection: Any, names: str) -> None:
    try:
        await connection.execute(f"LOCK TABLE {names} IN ACCESS SHARE MODE")
    except Exception as e:
        if getattr(e, "sqlstate", "") in ("42P01", "3F000"):
            raise Unavailable("a table was dropped at the start of the snapshot") from e
        raise


def require_readable(tables: Sequence[CountedTable], database: str) -> None:
    """Raises StepFailed if rows would be missing from a dump."""
    if denied := [table.name for table in tables if not table.readable]:
        raise StepFailed(f"the role of {database} cannot read {', '.join(denied[:5])}: grant pg_read_all_data")
    if hidden := [table.name for table in tables if table.hidden]:
        raise StepFailed(
            f"row-level security hides rows of {', '.join(hidden[:5])} from the role of {database}: "
            "use the owner of the tables, or a role with BYPASSRLS"
        )


def _archives(request: SnapshotRequest, source: _Source) -> list[tuple[str, str, list[str]]]:
    """Name, section and command of each archive: the schema, and the data in as many as there are jobs."""
    common = [
        "pg_dump",
        "--format=custom",
        "--no-password",
        f"--compress={request.compress}",
        f"--snapshot={source.snapshot}",
        f"--lock-wait-timeout={_LOCK_WAIT_MS}",
    ]
    archives = [("schema", "schema", [*common, "--schema-only"])]
    groups = _in_groups(source.tables[:], request.jobs)
    named = groups if request.tables else groups[1:]
    for number, group in enumerate(named, start=1):
        only = [f"--table={table.name}" for table in group]
        archives.append((f"data-{number:02}", "data", [*common, "--data-only", "--no-blobs", "--strict-names", *only]))
    if not request.tables:  # everything else, including large objects and sequences
        others = [f"--exclude-table={table.name}" for group in named for table in group]
        archives.append(("data-00", "data", [*common, "--data-only", "--blobs", *others]))
    return archives


def _in_groups(tables: tuple[CountedTable, ...], jobs: int) -> list[list[CountedTable]]:
    """Groups of similar size: each table goes to the smallest group, largest first; small ones to the first group."""
    by_size = sorted(tables, key=lambda table: table.size, reverse=True)
    groups: list[list[CountedTable]] = [[] for _ in range(max(jobs, 1))]
    sizes = [0] * len(groups)
    sizes[0] = sum(table.size for table in by_size[_NAMED_AT_MOST:])
    for table in by_size[:_NAMED_AT_MOST]:
        smallest = sizes.index(min(sizes))
        groups[smallest].append(table)
        sizes[smallest] += table.size + 8192
    groups[0] += by_size[_NAMED_AT_MOST:]
    return [groups[0], *(group for group in groups[1:] if group)]


async def _archive(store: SnapshotStore, name: str, section: str, argv: list[str], env: Mapping[str, str]) -> Added:
    """Stores one archive. pg_restore reads it meanwhile: an archive that it cannot read is not stored."""
    async with (
        contextlib.aclosing(output_of(argv, env)) as dumped,
        contextlib.aclosing(read_along(READ, OFFLINE, dumped)) as blocks,
    ):
        return await store.add(name, section, blocks)


async def _checksums(connection: Any, request: SnapshotRequest, source: _Source) -> list[TableChecksum]:
    """Checksums under the same snapshot, for the comparison with a restored copy."""
    if not request.scratch:
        return []
    found = []
    for table in source.tables:
        sampled_one_in = max(1, -(-table.size // request.full_hash_up_to))
        found.append(await checksums.table_checksum(connection, table, sampled_one_in))
    if not request.tables:
        found.append(await checksums.large_object_checksum(connection))
    return found


def program_version(program: str) -> tuple[int, str]:
    """The major and the full version of a program of PostgreSQL. Raises StepFailed if it is not installed."""
    if shutil.which(program) is None:
        raise StepFailed(f"{program} is not installed: apt-get install postgresql-client")
    output = version_output(program)
    found = re.search(r"(\d+)(\.\d+)?", output)
    if not found:
        raise StepFailed(f"{program} --version returned {output!r}, expected a version number")
    return int(found[1]), found[0]

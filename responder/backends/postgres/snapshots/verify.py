"""Verifies a snapshot: reads every archive, or restores it and compares every table."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib

from responder.backends.postgres.client import Postgres
from responder.backends.postgres.snapshots import checksums
from responder.backends.postgres.snapshots.concurrency import gather_or_cancel
from responder.backends.postgres.snapshots.manifest import Archive, SnapshotManifest, TableChecksum
from responder.backends.postgres.snapshots.restore import OFFLINE, create_database, drop_database, restore
from responder.backends.postgres.snapshots.store import SnapshotStore
from responder.backends.postgres.snapshots.streams import feed
from responder.errors import ResponderError, StepFailed


async def read_archives(store: SnapshotStore, manifest: SnapshotManifest, *, jobs: int) -> None:
    """Reads every archive with pg_restore. `pg_restore --list` would accept a truncated file.

    Raises StepFailed if an archive is damaged, and Unavailable.
    """
    slots = asyncio.Semaphore(jobs)

    async def read_archive(archive: Archive) -> None:
        async with slots, contextlib.aclosing(store.read(manifest, archive)) as blocks:
            await feed(["pg_restore", "--file=/dev/null"], OFFLINE, blocks)

    await gather_or_cancel(*(read_archive(archive) for archive in manifest.archives))


async def compare_restored(
    postgres: Postgres, store: SnapshotStore, manifest: SnapshotManifest, server: str, *, jobs: int
) -> None:
    """Restores the snapshot into a scratch database on the server, compares every table, and drops the database.

    Raises StepFailed with the tables that differ, and Unavailable.
    """
    if not manifest.checksums:
        raise StepFailed(f"{manifest.key} contains no checksums: only snapshots with `verify: restore` can be compared")
    name = f"rollback_scratch_{hashlib.sha256(manifest.key.encode()).hexdigest()[:12]}"
    await drop_database(postgres, server, name)
    await create_database(postgres, server, name, manifest)
    try:
        await restore(postgres, store, manifest, server, name, jobs=jobs, owners=False)
        checksums_of_copy = await restored_checksums(postgres, server, name, manifest.checksums)
        found = {checksum.table: checksum for checksum in checksums_of_copy}
    except BaseException:
        with contextlib.suppress(ResponderError):  # the next attempt drops it
            await drop_database(postgres, server, name)
        raise
    await drop_database(postgres, server, name)
    if differences := [
        f"{expected.table} has {found.get(expected.table) or 'no rows'}, expected {expected}"
        for expected in manifest.checksums
        if found.get(expected.table) != expected
    ]:
        raise StepFailed(f"the restored copy of {manifest.key} differs: {'; '.join(differences[:5])}")


async def restored_checksums(
    postgres: Postgres, server: str, name: str, expected: tuple[TableChecksum, ...]
) -> list[TableChecksum]:
    """The checksums of a restored copy, computed in the same way as the expected ones."""
    found = []
    async with checksums.session(postgres, server, database_name=name) as connection:
        tables = {table.name: table for table in await checksums.tables_of(connection)}
        for checksum in expected:
            if checksum.table == checksums.LARGE_OBJECTS:
                found.append(await checksums.large_object_checksum(connection))
            elif checksum.table in tables:
                found.append(
                    await checksums.table_checksum(connection, tables[checksum.table], checksum.sampled_one_in)
                )
    return found

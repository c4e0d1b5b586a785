"""Whether a snapshot is what it says: read to its last byte, and where asked restored and compared row by row."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib

from responder.backends.postgres.client import Postgres
from responder.backends.postgres.snapshots import checksums
from responder.backends.postgres.snapshots.gathering import together
from responder.backends.postgres.snapshots.manifest import Archive, Counted, Manifest
from responder.backends.postgres.snapshots.restore import OFFLINE, created, dropped, restore
from responder.backends.postgres.snapshots.store import Shelf
from responder.backends.postgres.snapshots.streams import fed_to
from responder.errors import ResponderError, StepFailed


async def read_back(shelf: Shelf, manifest: Manifest, *, jobs: int) -> None:
    """Reads all of every archive through pg_restore. Its `--list` would be content with half a file."""
    gate = asyncio.Semaphore(jobs)

    async def read_archive(archive: Archive) -> None:
        async with gate, contextlib.aclosing(shelf.read(manifest, archive)) as blocks:
            await fed_to(["pg_restore", "--file=/dev/null"], OFFLINE, blocks)

    await together(*(read_archive(archive) for archive in manifest.archives))


async def compare_restored(postgres: Postgres, shelf: Shelf, manifest: Manifest, server: str, *, jobs: int) -> None:
    """Restores it into a database of its own on a configured server, compares every table, and drops it again.

    Raises Halt with the tables that differ.
    """
    if not manifest.counted:
        raise StepFailed(f"{manifest.key} has no hashes to compare with: it was not made with verify: restore")
    name = f"rollback_scratch_{hashlib.sha256(manifest.key.encode()).hexdigest()[:12]}"
    await dropped(postgres, server, name)
    await created(postgres, server, name, manifest)
    try:
        await restore(postgres, shelf, manifest, server, name, jobs=jobs, owners=False)
        found = {counted.table: counted for counted in await count(postgres, server, name, manifest.counted)}
    except BaseException:
        with contextlib.suppress(ResponderError):  # the next try drops it
            await dropped(postgres, server, name)
        raise
    await dropped(postgres, server, name)
    if wrong := [
        f"{expected.table} has {found.get(expected.table) or 'nothing'} instead of {expected}"
        for expected in manifest.counted
        if found.get(expected.table) != expected
    ]:
        raise StepFailed(f"{manifest.key} restored is not what was dumped: {'; '.join(wrong[:5])}")


async def count(postgres: Postgres, server: str, name: str, like: tuple[Counted, ...]) -> list[Counted]:
    """The same counts and hashes of a restored copy."""
    found = []
    async with checksums.session(postgres, server, database_name=name) as connection:
        tables = {table.name: table for table in await checksums.tables_of(connection)}
        for wanted in like:
            if wanted.table == checksums.LARGE_OBJECTS:
                found.append(await checksums.large_objects(connection))
            elif wanted.table in tables:
                found.append(await checksums.counted(connection, tables[wanted.table], wanted.one_in))
    return found

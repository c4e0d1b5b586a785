"""Whether a snapshot is what it says: read to its last byte, and where asked restored and compared row by row."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib

from responder.clients.postgres import Postgres
from responder.clients.streams import fed_to
from responder.errors import Halt, ResponderError
from responder.snapshots import census
from responder.snapshots.manifest import Archive, Counted, Manifest
from responder.snapshots.restore import OFFLINE, created, dropped, restore
from responder.snapshots.shelf import Shelf
from responder.snapshots.together import together


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
        raise Halt(f"{manifest.key} has no hashes to compare with: it was not made with verify: restore")
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
        raise Halt(f"{manifest.key} restored is not what was dumped: {'; '.join(wrong[:5])}")


async def count(postgres: Postgres, server: str, name: str, like: tuple[Counted, ...]) -> list[Counted]:
    """The same counts and hashes of a restored copy."""
    found = []
    async with census.session(postgres, server, database_name=name) as connection:
        tables = {table.name: table for table in await census.tables_of(connection)}
        for wanted in like:
            if wanted.table == census.LARGE_OBJECTS:
                found.append(await census.large_objects(connection))
            elif wanted.table in tables:
                found.append(await census.counted(connection, tables[wanted.table], wanted.one_in))
    return found

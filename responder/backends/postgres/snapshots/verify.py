"""Verifies a snapshot: reads every archive, or restores it and compares every table; and says what that proves."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Sequence

from responder.backends.postgres.client import Postgres, error_text
from responder.backends.postgres.snapshots import checksums
from responder.backends.postgres.snapshots.concurrency import gather_or_cancel
from responder.backends.postgres.snapshots.manifest import Archive, SnapshotManifest, TableChecksum
from responder.backends.postgres.snapshots.restore import OFFLINE, create_database, drop_database, restore
from responder.backends.postgres.snapshots.store import SnapshotStore
from responder.backends.postgres.snapshots.streams import feed
from responder.errors import ResponderError, StepFailed

NOT_RESTORED = "every archive is read, but not restored"
"""What the verification `read` proves, and what it does not."""

READ = ("pg_restore", "--file=/dev/null")
"""Reads an archive to its end. `pg_restore --list` would accept a truncated one."""

_EXPRESSIONS = """
WITH called AS (
  SELECT DISTINCT d.classid, d.objid FROM pg_depend d JOIN pg_proc p ON p.oid = d.refobjid
   WHERE d.refclassid = 'pg_proc'::regclass AND p.pronamespace <> 'pg_catalog'::regnamespace
)
SELECT format('index %s', i.indexrelid::regclass) AS object, format('SELECT %s FROM ONLY %s LIMIT 1',
       concat_ws(', ', pg_get_expr(i.indexprs, i.indrelid), pg_get_expr(i.indpred, i.indrelid)),
       i.indrelid::regclass) AS query
  FROM pg_index i JOIN called ON classid = 'pg_class'::regclass AND objid = i.indexrelid
UNION ALL
SELECT format('constraint %I of %s', k.conname, k.conrelid::regclass),
       format('SELECT %s FROM ONLY %s LIMIT 1', pg_get_expr(k.conbin, k.conrelid), k.conrelid::regclass)
  FROM pg_constraint k JOIN called ON classid = 'pg_constraint'::regclass AND objid = k.oid
 WHERE k.contype = 'c' AND k.conrelid <> 0
UNION ALL
SELECT format('generated column %I of %s', a.attname, a.attrelid::regclass),
       format('SELECT %s FROM ONLY %s LIMIT 1', pg_get_expr(g.adbin, g.adrelid), a.attrelid::regclass)
  FROM pg_attrdef g JOIN called ON classid = 'pg_attrdef'::regclass AND objid = g.oid
  JOIN pg_attribute a ON a.attrelid = g.adrelid AND a.attnum = g.adnum AND a.attgenerated <> ''
UNION ALL
SELECT format('materialized view %s', c.oid::regclass),
       format('SELECT * FROM (%s) AS v LIMIT 1', rtrim(pg_get_viewdef(c.oid), ';'))
  FROM pg_rewrite r JOIN called ON classid = 'pg_rewrite'::regclass AND objid = r.oid
  JOIN pg_class c ON c.oid = r.ev_class AND c.relkind = 'm' AND c.relispopulated
 ORDER BY 1
"""
"""A query of one row for each expression with a function that a restore evaluates."""

_TOO_SLOW = "57014"


async def restore_obstacles(postgres: Postgres, database: str) -> tuple[str, ...]:
    """Objects that a restore of the database cannot create now, each with the error. Changes nothing.

    pg_restore runs without a search_path, so a function that names a table without its schema fails there.
    """
    obstacles = []
    options = {"default_transaction_read_only": "on", "statement_timeout": "2000"}
    async with checksums.session(postgres, database, **options) as connection:
        for row in await connection.fetch(_EXPRESSIONS):
            try:
                await connection.fetch(row["query"])
            except Exception as e:
                state = getattr(e, "sqlstate", None)
                if state is None:
                    raise
                if state != _TOO_SLOW:
                    obstacles.append(f"{row['object']} cannot be restored: {error_text(e)}")
    return tuple(obstacles)


async def read_archives(store: SnapshotStore, manifest: SnapshotManifest, *, jobs: int) -> None:
    """Reads every archive with pg_restore. Raises StepFailed if one is damaged, and Unavailable."""
    slots = asyncio.Semaphore(jobs)

    async def read_archive(archive: Archive) -> None:
        async with slots, contextlib.aclosing(store.read(manifest, archive)) as blocks:
            await feed(READ, OFFLINE, blocks)

    await gather_or_cancel(*(read_archive(archive) for archive in manifest.archives))


async def read_back(store: SnapshotStore, manifest: SnapshotManifest, archives: Sequence[Archive]) -> None:
    """Reads archives that pg_restore read while they were written: each has the same SHA-256 still.

    One after the other, because memory and disk limit it. Raises StepFailed if one is damaged, and Unavailable.
    """
    for archive in archives:
        async with contextlib.aclosing(store.read(manifest, archive)) as blocks:
            async for _ in blocks:
                pass


async def compare_restored(
    postgres: Postgres, store: SnapshotStore, manifest: SnapshotManifest, server: str, *, jobs: int
) -> None:
    """Restores the snapshot into a scratch database on the server, compares every table, and drops the database.

    A snapshot without checksums is restored and not compared. Raises StepFailed with the tables that differ, and
    Unavailable.
    """
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

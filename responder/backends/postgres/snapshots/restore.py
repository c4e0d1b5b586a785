"""Restores a snapshot into an empty or a new database."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from responder.backends.postgres.client import Postgres
from responder.backends.postgres.snapshots import checksums
from responder.backends.postgres.snapshots.concurrency import gather_or_cancel
from responder.backends.postgres.snapshots.manifest import Archive, SnapshotManifest
from responder.backends.postgres.snapshots.store import SnapshotStore
from responder.backends.postgres.snapshots.streams import feed, pipe
from responder.backends.postgres.sql import literal, quoted
from responder.errors import StepFailed
from responder.transport.acting import acting
from responder.transport.programs import environment

OFFLINE = environment()
"""The environment of pg_restore without a connection."""

_FIRST_RELATION = """
SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_'
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1 LIMIT 1
"""


async def restore(
    postgres: Postgres,
    store: SnapshotStore,
    manifest: SnapshotManifest,
    server: str,
    name: str,
    *,
    jobs: int,
    owners: bool,
    tables: Sequence[str] = (),
) -> None:
    """Restores the schema, the data, and then constraints, indexes and triggers, so that the order of tables is free.

    It leaves out foreign keys if it restores only some tables. `owners`: also restore owners and privileges.
    Raises StepFailed at the first error, and Unavailable.
    """
    slots = asyncio.Semaphore(jobs)
    schema = next(item for item in manifest.archives if item.section == "schema")
    common = ["pg_restore", "--no-password", "--exit-on-error", f"--dbname={_conninfo(name)}"]
    common += [] if owners else ["--no-owner", "--no-privileges"]
    application = "rollback-responder restore"
    with postgres.environment(
        server, application=application, database_name=name, statement_timeout="0", lock_timeout="10s"
    ) as env:

        async def load(archive: Archive, *options: str) -> None:
            acting.get()()
            async with slots, contextlib.aclosing(store.read(manifest, archive)) as blocks:
                await feed([*common, *options], env, blocks)

        await load(schema, "--section=pre-data")
        data = [item for item in manifest.archives if item.section == "data"]
        for chosen in await table_options(postgres, server, name, tables):
            await gather_or_cancel(*(load(archive, "--data-only", *chosen) for archive in data))
        partial = bool(tables) or manifest.tables is not None
        if partial:
            with _list_without_foreign_keys(await _contents(store, manifest, schema)) as listed:
                await load(schema, "--section=post-data", f"--use-list={listed}")
        else:
            await load(schema, "--section=post-data")
    await _refresh(postgres, server, name, manifest)


async def table_options(postgres: Postgres, server: str, name: str | None, tables: Sequence[str]) -> list[list[str]]:
    """Options of pg_restore that select tables with their partitions and sequences, one list for each schema."""
    if not tables:
        return [[]]
    chosen: dict[str, list[str]] = {}
    async with checksums.session(postgres, server, database_name=name) as connection:
        oids = [table.oid for table in await checksums.tables_of(connection, tables)]
        for row in await connection.fetch(_RELATIONS, oids):
            chosen.setdefault(row["nspname"], []).append(row["relname"])
    return [[f"--schema={schema}", *(f"--table={table}" for table in names)] for schema, names in chosen.items()]


_RELATIONS = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = ANY ($1::oid[]) OR (c.relkind = 'S' AND EXISTS (
    SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.refobjid = ANY ($1::oid[]) AND d.deptype IN ('a', 'i')))
"""


async def _contents(store: SnapshotStore, manifest: SnapshotManifest, archive: Archive) -> str:
    async with contextlib.aclosing(store.read(manifest, archive)) as blocks:
        listed = [block async for block in pipe(["pg_restore", "--list"], OFFLINE, blocks)]
    return b"".join(listed).decode()


@contextlib.contextmanager
def _list_without_foreign_keys(contents: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="rollback-list-") as directory:
        file = Path(directory) / "list"
        file.write_text("".join(f"{line}\n" for line in contents.splitlines() if " FK CONSTRAINT " not in line))
        yield file


async def _refresh(postgres: Postgres, server: str, name: str, manifest: SnapshotManifest) -> None:
    """Refreshes the materialized views, starting with those that others read."""
    left, error = list(manifest.materialized_views), ""
    async with checksums.session(postgres, server, database_name=name) as connection:
        while left:
            before = len(left)
            for view in tuple(left):
                try:
                    acting.get()()
                    await connection.execute(f"REFRESH MATERIALIZED VIEW {view}")
                    left.remove(view)
                except Exception as e:
                    if getattr(e, "sqlstate", "") != "55000":  # it reads a view that is not populated yet
                        raise
                    error = str(e)
            if len(left) == before:
                raise StepFailed(f"cannot refresh the materialized views {', '.join(left)}: {error}")


async def existing_content(postgres: Postgres, server: str, name: str) -> str | None:
    """The name of a relation in the database; empty if it has none. None if the database does not exist."""
    async with checksums.session(postgres, server) as connection:
        if not await connection.fetchval("SELECT count(*) FROM pg_database WHERE datname = $1", name):
            return None
    async with checksums.session(postgres, server, database_name=name) as connection:
        return str(await connection.fetchval(_FIRST_RELATION) or "")


async def server_identity(postgres: Postgres, server: str, name: str | None = None) -> tuple[str, int]:
    """Start time of the server and OID of the database, which are equal for all addresses of one database."""
    async with checksums.session(postgres, server, database_name=name) as connection:
        row = await connection.fetchrow(
            "SELECT pg_postmaster_start_time()::text, oid::bigint FROM pg_database WHERE datname = current_database()"
        )
    return row[0], row[1]


async def create_database(postgres: Postgres, server: str, name: str, manifest: SnapshotManifest) -> None:
    """Creates a database with the encoding and the locale of the snapshot."""
    acting.get()()
    async with checksums.session(postgres, server) as connection:
        locale = [manifest.encoding, manifest.collate, manifest.ctype]
        encoding, collate, ctype = map(literal, locale)
        await connection.execute(
            f"CREATE DATABASE {quoted(name)} TEMPLATE template0 "
            f"ENCODING {encoding} LC_COLLATE {collate} LC_CTYPE {ctype}"
        )


async def drop_database(postgres: Postgres, server: str, name: str) -> None:
    """Drops a database with its sessions. The caller ensures that it contains no valuable data."""
    acting.get()()
    async with checksums.session(postgres, server) as connection:
        await connection.execute(f"DROP DATABASE IF EXISTS {quoted(name)} WITH (FORCE)")


def _conninfo(name: str) -> str:
    return "dbname='" + name.replace("\\", "\\\\").replace("'", "\\'") + "'"

"""From a snapshot back to a database: an empty or a new one, never over anything that is there."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from responder.backends.postgres.client import Postgres
from responder.backends.postgres.snapshots import checksums
from responder.backends.postgres.snapshots.checksums import quoted
from responder.backends.postgres.snapshots.gathering import together
from responder.backends.postgres.snapshots.manifest import Archive, Manifest
from responder.backends.postgres.snapshots.store import Shelf
from responder.backends.postgres.snapshots.streams import fed_to, through
from responder.errors import StepFailed
from responder.transport.acting import acting
from responder.transport.programs import environment

OFFLINE = environment()
"""All that pg_restore needs where it connects to nothing."""

_ANYTHING = """
SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_'
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1 LIMIT 1
"""


async def restore(
    postgres: Postgres,
    shelf: Shelf,
    manifest: Manifest,
    server: str,
    name: str,
    *,
    jobs: int,
    owners: bool,
    tables: Sequence[str] = (),
) -> None:
    """Schema, data, then all that checks or speeds up the data: so no order of tables matters, and no trigger fires.

    Where not all data is there, foreign keys are left out. Raises Halt at the first thing that does not go in.
    """
    gate = asyncio.Semaphore(jobs)
    schema = next(item for item in manifest.archives if item.section == "schema")
    common = ["pg_restore", "--no-password", "--exit-on-error", f"--dbname={_conninfo(name)}"]
    common += [] if owners else ["--no-owner", "--no-privileges"]
    application = "rollback-responder restore"
    with postgres.environment(
        server, application=application, database_name=name, statement_timeout="0", lock_timeout="10s"
    ) as env:

        async def put(archive: Archive, *how: str) -> None:
            acting.get()()
            async with gate, contextlib.aclosing(shelf.read(manifest, archive)) as blocks:
                await fed_to([*common, *how], env, blocks)

        await put(schema, "--section=pre-data")
        data = [item for item in manifest.archives if item.section == "data"]
        for chosen in await choices(postgres, server, name, tables):
            await together(*(put(archive, "--data-only", *chosen) for archive in data))
        partial = bool(tables) or manifest.tables is not None
        if partial:
            with _list_without_foreign_keys(await _contents(shelf, manifest, schema)) as listed:
                await put(schema, "--section=post-data", f"--use-list={listed}")
        else:
            await put(schema, "--section=post-data")
    await _refresh(postgres, server, name, manifest)


async def choices(postgres: Postgres, server: str, name: str | None, tables: Sequence[str]) -> list[list[str]]:
    """The options of pg_restore that choose tables, with their partitions and sequences: one list for each schema."""
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


async def _contents(shelf: Shelf, manifest: Manifest, archive: Archive) -> str:
    async with contextlib.aclosing(shelf.read(manifest, archive)) as blocks:
        listed = [block async for block in through(["pg_restore", "--list"], OFFLINE, blocks)]
    return b"".join(listed).decode()


@contextlib.contextmanager
def _list_without_foreign_keys(contents: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="rollback-list-") as directory:
        file = Path(directory) / "list"
        file.write_text("".join(f"{line}\n" for line in contents.splitlines() if " FK CONSTRAINT " not in line))
        yield file


async def _refresh(postgres: Postgres, server: str, name: str, manifest: Manifest) -> None:
    """Materialised views, those first that others read."""
    left, wrong = list(manifest.materialized_views), ""
    async with checksums.session(postgres, server, database_name=name) as connection:
        while left:
            before = len(left)
            for view in tuple(left):
                try:
                    acting.get()()
                    await connection.execute(f"REFRESH MATERIALIZED VIEW {view}")
                    left.remove(view)
                except Exception as e:
                    if getattr(e, "sqlstate", "") != "55000":  # it reads one that is not filled yet
                        raise
                    wrong = str(e)
            if len(left) == before:
                raise StepFailed(f"{', '.join(left)} cannot be refreshed: {wrong}")


async def is_empty(postgres: Postgres, server: str, name: str) -> str | None:
    """None where the database is not there; empty where nothing is in it; else the name of something that is."""
    async with checksums.session(postgres, server) as connection:
        if not await connection.fetchval("SELECT count(*) FROM pg_database WHERE datname = $1", name):
            return None
    async with checksums.session(postgres, server, database_name=name) as connection:
        return str(await connection.fetchval(_ANYTHING) or "")


async def identity(postgres: Postgres, server: str, name: str | None = None) -> tuple[str, int]:
    """Which server that really is, and which database of it: one has several addresses."""
    async with checksums.session(postgres, server, database_name=name) as connection:
        row = await connection.fetchrow(
            "SELECT pg_postmaster_start_time()::text, oid::bigint FROM pg_database WHERE datname = current_database()"
        )
    return row[0], row[1]


async def created(postgres: Postgres, server: str, name: str, manifest: Manifest) -> None:
    """A new database that sorts and spells as the one that was dumped."""
    acting.get()()
    async with checksums.session(postgres, server) as connection:
        locale = [manifest.encoding, manifest.collate, manifest.ctype]
        encoding, collate, ctype = ("'" + value.replace("'", "''") + "'" for value in locale)
        await connection.execute(
            f"CREATE DATABASE {quoted(name)} TEMPLATE template0 "
            f"ENCODING {encoding} LC_COLLATE {collate} LC_CTYPE {ctype}"
        )


async def dropped(postgres: Postgres, server: str, name: str) -> None:
    """To be called with names of our own making only."""
    acting.get()()
    async with checksums.session(postgres, server) as connection:
        await connection.execute(f"DROP DATABASE IF EXISTS {quoted(name)} WITH (FORCE)")


def _conninfo(name: str) -> str:
    return "dbname='" + name.replace("\\", "\\\\").replace("'", "\\'") + "'"

"""What the resource of a snapshot is handed: the databases, and the shelves that snapshots are put on."""

from __future__ import annotations

import asyncio
from typing import NamedTuple, Self

from responder.backends.postgres.client import DatabaseSettings, Postgres
from responder.backends.postgres.snapshots import checksums
from responder.backends.postgres.snapshots.dump import Wanted, make, refuse_unreadable, version_of
from responder.backends.postgres.snapshots.manifest import Manifest
from responder.backends.postgres.snapshots.store import Shelf, ShelfSettings
from responder.errors import StepFailed
from responder.transport.aws import Aws, AwsSettings


class SnapshotSettings(NamedTuple):
    shelves: tuple[ShelfSettings, ...] = ()
    databases: tuple[DatabaseSettings, ...] = ()
    aws: AwsSettings = AwsSettings()


class Snapshots:
    """Makes and finds snapshots. Raises `Unavailable` and `Halt`."""

    package = "asyncpg"
    extra = "database"

    def __init__(self, settings: SnapshotSettings, postgres: Postgres, aws: Aws) -> None:
        self.postgres, self._aws = postgres, aws
        self.shelves = {shelf.name: Shelf.of(shelf, aws) for shelf in settings.shelves}

    @classmethod
    async def connect(cls, settings: SnapshotSettings | None) -> Self:
        chosen = settings or SnapshotSettings()
        return cls(chosen, await Postgres.connect(chosen.databases), await Aws.connect(chosen.aws))

    async def close(self) -> None:
        await self._aws.close()
        await self.postgres.close()

    def shelf(self, name: str) -> Shelf:
        if name not in self.shelves:
            raise StepFailed(f"no place {name!r} for snapshots is configured")
        return self.shelves[name]

    async def find(self, shelf: str, key: str) -> Manifest | None:
        return await self.shelf(shelf).find(key)

    async def make(self, shelf: str, wanted: Wanted) -> Manifest:
        return await make(self.postgres, self.shelf(shelf), wanted)

    async def foresee(self, shelf: str, wanted: Wanted) -> tuple[int, int]:
        """How many tables it would hold, and how many bytes those have now. Changes nothing.

        Raises Halt where it could not be made: programs too old or missing, rights, room, a store that cannot be
        reached, no right to make the database that it is compared in.
        """
        room = await self.shelf(shelf).store.room()
        async with checksums.session(self.postgres, wanted.database) as connection:
            tables = await checksums.tables_of(connection, wanted.tables or None)
            refuse_unreadable(tables, wanted.database)
            major = int(await connection.fetchval("SELECT current_setting('server_version_num')::int / 10000"))
            if await connection.fetchval("SELECT pg_is_in_recovery()"):
                raise StepFailed(f"{wanted.database} is a standby, which exports no snapshots: name the primary")
        for program in ("pg_dump", "pg_restore"):
            found, whole = await asyncio.to_thread(version_of, program)
            if found < major:
                raise StepFailed(f"{program} {whole} cannot dump PostgreSQL {major}: install postgresql-client-{major}")
        size = sum(table.size for table in tables)
        if room is not None and room < size:
            raise StepFailed(f"{self.shelf(shelf)} has {room >> 20} MiB free, and the tables have {size >> 20} MiB")
        if wanted.scratch:
            async with checksums.session(self.postgres, wanted.scratch) as connection:
                if not await connection.fetchval(
                    "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"
                ):
                    raise StepFailed(
                        f"the role for {wanted.scratch} may create no database to compare in: give it CREATEDB"
                    )
        return len(tables), size

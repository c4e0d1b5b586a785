"""The client of snapshots: the databases and the stores."""

from __future__ import annotations

import asyncio
from typing import NamedTuple, Self

from responder.backends.postgres.client import DatabaseSettings, Postgres
from responder.backends.postgres.snapshots import checksums
from responder.backends.postgres.snapshots.dump import (
    SnapshotRequest,
    create_snapshot,
    program_version,
    require_readable,
)
from responder.backends.postgres.snapshots.manifest import SnapshotManifest
from responder.backends.postgres.snapshots.store import SnapshotStore, SnapshotStoreSettings
from responder.backends.postgres.snapshots.verify import restore_obstacles
from responder.errors import StepFailed
from responder.transport.aws import Aws, AwsSettings


class SnapshotSettings(NamedTuple):
    """The configuration that snapshots need."""

    stores: tuple[SnapshotStoreSettings, ...] = ()
    databases: tuple[DatabaseSettings, ...] = ()
    aws: AwsSettings = AwsSettings()


class Snapshots:
    """Creates and finds snapshots. Raises StepFailed and Unavailable."""

    package = "asyncpg"
    extra = "database"
    setting = "snapshot_settings"

    def __init__(self, settings: SnapshotSettings, postgres: Postgres, aws: Aws) -> None:
        self.postgres, self._aws = postgres, aws
        self.stores = {store.name: SnapshotStore.open(store, aws) for store in settings.stores}

    @classmethod
    async def connect(cls, settings: SnapshotSettings | None) -> Self:
        chosen = settings or SnapshotSettings()
        return cls(chosen, await Postgres.connect(chosen.databases), await Aws.connect(chosen.aws))

    async def close(self) -> None:
        await self._aws.close()
        await self.postgres.close()

    def store(self, name: str) -> SnapshotStore:
        """The store of that name. Raises StepFailed for an unknown name."""
        if name not in self.stores:
            raise StepFailed(
                f"unknown snapshot store {name!r}: expected one of {', '.join(self.stores) or 'none'} from `snapshots`"
            )
        return self.stores[name]

    async def find(self, store: str, key: str) -> SnapshotManifest | None:
        """The snapshot of that key; None if there is none."""
        return await self.store(store).find(key)

    async def create(self, store: str, request: SnapshotRequest) -> SnapshotManifest:
        """Creates and verifies a snapshot."""
        return await create_snapshot(self.postgres, self.store(store), request)

    async def restore_obstacles(self, database: str) -> tuple[str, ...]:
        """Objects of the database that a restore of its snapshot cannot create, each with the error."""
        return await restore_obstacles(self.postgres, database)

    async def preflight(self, store: str, request: SnapshotRequest) -> tuple[int, int]:
        """The number of tables of the snapshot, and their size in bytes now. Changes nothing.

        Raises StepFailed if the snapshot cannot be created: missing or outdated programs, privileges, disk space.
        Raises Unavailable if the store or the database cannot be reached.
        """
        free = await self.store(store).objects.room()
        async with checksums.session(self.postgres, request.database) as connection:
            tables = await checksums.tables_of(connection, request.tables or None)
            require_readable(tables, request.database)
            major = int(await connection.fetchval("SELECT current_setting('server_version_num')::int / 10000"))
            if await connection.fetchval("SELECT pg_is_in_recovery()"):
                raise StepFailed(
                    f"{request.database} is a standby, which cannot export snapshots: configure the primary"
                )
        programs = ("pg_dump", "pg_restore")
        versions = await asyncio.gather(*(asyncio.to_thread(program_version, program) for program in programs))
        for program, (found, version) in zip(programs, versions, strict=True):
            if found < major:
                raise StepFailed(
                    f"{program} {version} cannot dump PostgreSQL {major}: install postgresql-client-{major}"
                )
        size = sum(table.size for table in tables)
        if free is not None and free < size:
            raise StepFailed(f"store {self.store(store)} has {free >> 20} MiB free, the tables need {size >> 20} MiB")
        if request.scratch:
            async with checksums.session(self.postgres, request.scratch) as connection:
                if not await connection.fetchval(
                    "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"
                ):
                    raise StepFailed(f"the role of {request.scratch} cannot create a scratch database: grant CREATEDB")
        return len(tables), size

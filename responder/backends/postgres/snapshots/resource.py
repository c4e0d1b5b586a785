"""The snapshot of a database as a resource: absent, or complete and verified under its key."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Literal, Self

from pydantic import Field, JsonValue

from foundation.durations import Duration, format_duration
from responder.backends.postgres.snapshots.client import Snapshots
from responder.backends.postgres.snapshots.dump import SnapshotRequest
from responder.backends.postgres.snapshots.verify import NOT_RESTORED
from responder.backends.problems import Problem
from responder.backends.resource import Resource
from responder.errors import StepFailed, Unavailable

_READ_TIMEOUT = 30.0


class Snapshot(Resource[Snapshots, JsonValue]):
    """A snapshot that is taken before a database changes. Its value is its key in the store, or None."""

    resource: Literal["snapshot"] = "snapshot"
    database: str = Field(description="Name of one of `databases`")
    store: str = Field(description="Name of one of `snapshots`")
    tables: tuple[str, ...] = Field(
        default=(),
        description="Tables with rows to include, such as `public.orders`; default: all. The schema is always complete",
    )
    jobs: int = Field(
        default=2, ge=1, le=32, description="Concurrent pg_dump streams, about 32 MiB of memory each with S3"
    )
    compress: int = Field(default=1, ge=0, le=9, description="Compression level of pg_dump")
    verify: Literal["read", "restore"] = Field(
        default="read",
        description="`read`: read every archive, without proof that it can be restored; "
        "`restore`: also restore and compare every table",
    )
    scratch: str | None = Field(
        default=None,
        description="Name of one of `databases`, whose server restores the copy to compare; default: its own",
    )
    full_hash_up_to: int = Field(
        default=10,
        ge=1,
        description="Table size in GiB up to which every row is hashed; above it, a sample",
    )
    within: Duration = Field(default=3600.0, gt=0, description="Timeout of the snapshot, including all attempts")
    key: str = Field(default="", description="Set by the responder: key in the store")

    def planned(self, execution: str) -> Self:
        """The resource with the key of an execution, by which a repeated step finds an existing snapshot."""
        return self.model_copy(update={"key": f"{self.database}/{execution}"})

    @property
    def timeout(self) -> float:
        return self.within

    async def read(self, snapshots: Snapshots) -> JsonValue:
        last = "no answer"
        try:  # reading is much faster than `within`, which is for creating a snapshot
            async with asyncio.timeout(_READ_TIMEOUT):
                while True:
                    try:
                        return self.key if await snapshots.find(self.store, self.key) else None
                    except Unavailable as e:
                        last = str(e)
                    await asyncio.sleep(0.5)
        except TimeoutError:
            raise StepFailed(f"cannot determine whether the {self} exists: {last}") from None

    async def write(self, snapshots: Snapshots, value: JsonValue, *, expected: JsonValue) -> None:
        if value is None or value != self.key:
            raise StepFailed(f"cannot set the {self} to {value!r}: expected {self.key!r}")
        if await snapshots.find(self.store, self.key) is None:
            await snapshots.create(self.store, self._request)

    async def preflight(self, snapshots: Snapshots, value: JsonValue) -> tuple[str, ...]:
        tables, size = await snapshots.preflight(self.store, self._request)
        proof = f"{NOT_RESTORED} (verify: read)" if self.verify == "read" else "restored and compared"
        what = f"snapshot {self.describe(value)} of {tables} tables of {self.database} ({size / 2**20:.0f} MiB)"
        return (
            f"{what} in {self.store}: taken and verified within {format_duration(self.within)}; {proof}",
            *(f"snapshot of {self.database}: {found}" for found in await snapshots.restore_obstacles(self.database)),
        )

    async def check_access(self, snapshots: Snapshots) -> list[Problem]:
        await snapshots.preflight(self.store, self._request)
        fix = "write the schema before each name in the function, or set its search_path (ALTER FUNCTION … SET)"
        return [Problem(str(self), found, fix) for found in await snapshots.restore_obstacles(self.database)]

    def not_configured(self, *, databases: Collection[str], snapshots: Collection[str]) -> tuple[str, ...]:
        """The unknown names that it refers to, one sentence each."""
        needed = (("database", self.database, databases), ("snapshot store", self.store, snapshots))
        needed = (*needed, *((("database", self.scratch, databases),) if self.scratch else ()))
        return tuple(f"no {kind} {name} is configured" for kind, name, known in needed if name not in known)

    @property
    def _request(self) -> SnapshotRequest:
        return SnapshotRequest(
            key=self.key,
            database=self.database,
            tables=self.tables,
            jobs=self.jobs,
            compress=self.compress,
            scratch=(self.scratch or self.database) if self.verify == "restore" else None,
            full_hash_up_to=self.full_hash_up_to << 30,
        )

    def describe(self, value: JsonValue) -> str:
        """The key. A dry run has no execution yet, whose ID is the second part."""
        return "none" if value is None else f"{value}{'EXECUTION' if str(value).endswith('/') else ''}"

    def __str__(self) -> str:
        return f"snapshot of {self.database} in {self.store}"

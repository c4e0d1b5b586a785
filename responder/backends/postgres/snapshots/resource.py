"""A snapshot of a database: not there, or there under its key, whole and verified."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Literal, Self

from pydantic import Field, JsonValue

from foundation.durations import Duration, format_duration
from responder.backends.postgres.snapshots.client import Snapshots
from responder.backends.postgres.snapshots.dump import Wanted
from responder.backends.problems import Problem
from responder.backends.resource import Resource
from responder.errors import StepFailed, Unavailable

_LOOKED_FOR_WITHIN = 30.0


class Snapshot(Resource[Snapshots, JsonValue]):
    """A snapshot that is taken before a database is touched. Its value is the key that it lies under, or None."""

    resource: Literal["snapshot"] = "snapshot"
    database: str = Field(description="Name of one of `databases`")
    store: str = Field(description="Name of one of `snapshots`, where it is kept")
    tables: tuple[str, ...] = Field(
        default=(), description="Only the rows of these, as `public.orders`; the schema is always kept whole. None: all"
    )
    jobs: int = Field(default=2, ge=1, le=32, description="Streams of pg_dump at once; each takes some 64 MiB for S3")
    compress: int = Field(default=1, ge=0, le=9, description="Level of pg_dump's compression")
    verify: Literal["read", "restore"] = Field(
        default="read", description="Read it all back; or also restore it into a database and compare every table"
    )
    scratch: str | None = Field(
        default=None, description="Name of one of `databases`, on whose server it is restored to be compared (its own)"
    )
    hash_whole_up_to: int = Field(
        default=10, ge=1, description="GiB; of a larger table only a part of the rows is hashed for the comparison"
    )
    within: Duration = Field(default=3600.0, gt=0, description="Longest time for all of it, further tries included")
    key: str = Field(default="", description="Set by the responder: what it is kept under")

    def planned(self, execution: str) -> Self:
        """The resource with the key of one execution: a repeated step finds its own work."""
        return self.model_copy(update={"key": f"{self.database}/{execution}"})

    @property
    def timeout(self) -> float:
        return self.within

    async def read(self, snapshots: Snapshots) -> JsonValue:
        last = "no answer"
        try:  # not as long as making one may take
            async with asyncio.timeout(_LOOKED_FOR_WITHIN):
                while True:
                    try:
                        return self.key if await snapshots.find(self.store, self.key) else None
                    except Unavailable as e:
                        last = str(e)
                    await asyncio.sleep(0.5)
        except TimeoutError:
            raise StepFailed(f"whether there is a {self} cannot be told: {last}") from None

    async def write(self, snapshots: Snapshots, value: JsonValue, *, expected: JsonValue) -> None:
        if value is None or value != self.key:
            raise StepFailed(f"a {self} cannot be set to {value!r}")
        if await snapshots.find(self.store, self.key) is None:
            await snapshots.make(self.store, self._wanted)

    async def preflight(self, snapshots: Snapshots, value: JsonValue) -> tuple[str, ...]:
        tables, size = await snapshots.foresee(self.store, self._wanted)
        how = "read back" if self.verify == "read" else "restored and compared"
        return (
            f"a snapshot of {tables} tables of {self.database} ({size / 2**20:.0f} MiB) is put into {self.store} as "
            f"{value}, and {how}, within {format_duration(self.within)}",
        )

    async def check_access(self, snapshots: Snapshots) -> list[Problem]:
        await snapshots.foresee(self.store, self._wanted)
        return []

    def not_configured(self, *, databases: Collection[str], snapshots: Collection[str]) -> tuple[str, ...]:
        """What it names and is not there, a sentence for each."""
        needed = (("database", self.database, databases), ("place for snapshots", self.store, snapshots))
        needed = (*needed, *((("database", self.scratch, databases),) if self.scratch else ()))
        return tuple(f"no {what} {name} is configured" for what, name, known in needed if name not in known)

    @property
    def _wanted(self) -> Wanted:
        return Wanted(
            key=self.key,
            database=self.database,
            tables=self.tables,
            jobs=self.jobs,
            compress=self.compress,
            scratch=(self.scratch or self.database) if self.verify == "restore" else None,
            hash_whole_up_to=self.hash_whole_up_to << 30,
        )

    def describe(self, value: JsonValue) -> str:
        return "none" if value is None else str(value)

    def __str__(self) -> str:
        return f"snapshot of {self.database} in {self.store}"

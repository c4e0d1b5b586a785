"""One PostgreSQL for this directory, a new database for each test, and an S3 server that can be killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import asyncpg
import pytest
from pydantic import TypeAdapter

from responder.backends.postgres.snapshots.client import Snapshots, SnapshotSettings
from responder.backends.postgres.snapshots.dump import SnapshotRequest
from tests import parts

TORTURE = (Path(__file__).parents[1] / "torture.sql").read_text()
BUCKET = "snapshots"


class S3:
    """An S3 server in a separate process."""

    def __init__(self, directory: Path) -> None:
        self.port = parts.free_port()
        self._log = directory / "moto.log"
        self.process: parts.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self.process = await parts.Process.start(
            [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
            log=self._log,
            ready=f"{self.url}/moto-api/data.json",
        )
        with urlopen(Request(f"{self.url}/{BUCKET}", method="PUT")):
            pass

    async def kill(self) -> None:
        assert self.process is not None
        await self.process.kill()


def settings_of(settings: dict[str, Any]) -> SnapshotSettings:
    return TypeAdapter(SnapshotSettings).validate_json(json.dumps(settings))


@dataclass
class SourceDatabase:
    """A database, a store for its snapshots, and the client of the resource."""

    postgres: parts.Postgres
    dsn: str
    settings: dict[str, Any]  # the settings as in a configuration file
    snapshots: Snapshots
    directory: Path

    async def sql(self, *statements: str, dsn: str = "") -> list[Any]:
        connection = await asyncpg.connect(dsn or self.dsn)
        try:
            rows: list[Any] = []
            for statement in statements:
                rows = await connection.fetch(statement)
            return rows
        finally:
            await connection.close()

    async def script(self, text: str) -> None:
        connection = await asyncpg.connect(self.dsn)
        try:
            await connection.execute(text)
        finally:
            await connection.close()

    def request(self, **more: Any) -> SnapshotRequest:
        return SnapshotRequest(**{"key": "shop/x-1", "database": "shop", "jobs": 2, **more})

    def files(self) -> list[str]:
        return sorted(str(p.relative_to(self.directory)) for p in self.directory.rglob("*") if p.is_file())

    async def databases(self) -> set[str]:
        return {row["datname"] for row in await self.sql("SELECT datname FROM pg_database", dsn=self.postgres.dsn)}


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[parts.Postgres]:
    loop = asyncio.new_event_loop()  # the tests have one each
    with contextlib.closing(loop):
        running = parts.postgres(tmp_path_factory.mktemp("postgres"))
        yield loop.run_until_complete(running.__aenter__())
        loop.run_until_complete(running.__aexit__(None, None, None))


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    loop = asyncio.new_event_loop()
    with contextlib.closing(loop):
        server = S3(tmp_path_factory.mktemp("s3"))
        loop.run_until_complete(server.start())
        yield server
        loop.run_until_complete(server.kill())


_made = iter(range(1_000_000))


@contextlib.asynccontextmanager
async def source_database(
    cluster: parts.Postgres, directory: Path, *, s3: S3 | None = None, encrypt: bool = False, **store: Any
) -> AsyncIterator[SourceDatabase]:
    dsn = await cluster.database(f"shop_{next(_made)}")
    kept = directory / "kept"
    kept.mkdir(exist_ok=True)
    if encrypt:
        key = directory / "key"
        key.write_text("ab" * 32 + "\n")
        store["encrypt"] = {"key_file": str(key)}
    where: dict[str, Any] = {"s3": {"bucket": BUCKET, "prefix": directory.name}} if s3 else {"directory": str(kept)}
    settings = {
        "stores": [{"name": "kept", **where, **store}],
        "databases": [{"name": "shop", "url": dsn}, {"name": "server", "url": cluster.dsn}],
        "aws": {"endpoint_url": s3.url, "access_key_id": "a", "secret_access_key": "b", "timeout": "5s"} if s3 else {},
    }
    snapshots = await Snapshots.connect(settings_of(settings))
    made = SourceDatabase(cluster, dsn, settings, snapshots, kept)
    try:
        yield made
    finally:
        await snapshots.close()
        await cluster.start()
        for name in [name for name in await made.databases() if name.startswith(dsn.rpartition("/")[2])]:
            await made.sql(f'DROP DATABASE "{name}" WITH (FORCE)', dsn=cluster.dsn)


@pytest.fixture
async def source(cluster: parts.Postgres, tmp_path: Path) -> AsyncIterator[SourceDatabase]:
    async with source_database(cluster, tmp_path) as made:
        yield made

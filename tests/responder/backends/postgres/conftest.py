"""A fresh database for each test on one PostgreSQL, and rollbacks of it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from responder.backends.http.client import Http
from responder.backends.postgres.client import DatabaseSettings
from responder.backends.postgres.schemas import Schemas
from tests.journals import served
from tests.responder.harness import Rollback

_made: list[str] = []


class AppDatabase:
    """A database with the schema of `version` of an application, and a client for it."""

    def __init__(self, dsn: str, directory: Path, **variables: str) -> None:
        self.dsn, self.directory = dsn, directory
        settings = {"name": "shop", "url": dsn, "variables": variables}
        self.schemas = Schemas((DatabaseSettings.model_validate(settings),))
        self.files = directory / "sql"

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[asyncpg.Connection]:
        connection = await asyncpg.connect(self.dsn)
        try:
            yield connection
        finally:
            await connection.close(timeout=60)

    async def run(self, sql: str) -> None:
        async with self.session() as session:
            await session.execute(sql)

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        async with self.session() as session:
            return [tuple(row) for row in await session.fetch(sql)]

    async def value(self, sql: str) -> Any:
        async with self.session() as session:
            return await session.fetchval(sql)

    def file(self, number: int, down: str, up: str = "") -> None:
        self.files.mkdir(exist_ok=True)
        (self.files / f"{number:03d}_step.down.sql").write_text(down)
        (self.files / f"{number:03d}_step.up.sql").write_text(up or "SELECT 1 WHERE false")

    async def apply(self, *ups: str) -> None:
        """Migrations 1, 2, … as plain SQL, recorded in the usual table."""
        await self.run("CREATE TABLE IF NOT EXISTS schema_migrations (version text PRIMARY KEY)")
        for sql in ups:
            number = 1 + len(await self.rows("SELECT FROM schema_migrations"))
            await self.run(f"{sql}; INSERT INTO schema_migrations VALUES ('{number}')")

    def rollback(self, from_version: str = "2", to_version: str = "1", *, tool: Any = None, **more: Any) -> Rollback:
        target = {k: more.pop(k) for k in ("artifact", "from_artifact", "health_checks", "wait") if k in more}
        quick = {"lock_timeout": "200ms", "attempts": 3, **more.pop("migrations", {})}
        tool = tool or {"sql": {"directory": str(self.files)}}
        options = {"strategy": "database_migration", "migrations": {"database": "shop", **tool, **quick}, **more}
        return Rollback(
            options,
            {Schemas: self.schemas, Http: AlwaysHealthy()},
            from_version=from_version,
            to_version=to_version,
            **target,
        )

    async def preserved(self) -> list[tuple[Any, ...]]:
        return await self.rows(
            "SELECT kind, source, columns, copy, restore_sql FROM rollback_keep.preserved"
            " ORDER BY kind <> 'columns', number"
        )


class AlwaysHealthy:
    """Every health check passes."""

    async def get(self, url: str, *, headers: dict[str, str], timeout: float, at: str = "") -> tuple[int, str]:
        return 200, "{}"


EMPTY = """
DO $$ DECLARE s text; BEGIN
  FOR s IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' LOOP
    EXECUTE format('DROP SCHEMA %I CASCADE', s);
  END LOOP;
END $$; CREATE SCHEMA public; GRANT ALL ON SCHEMA public TO public"""


@pytest.fixture(scope="session")
def durable_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A durable server, which keeps commits when a test crashes it."""
    yield from served(tmp_path_factory.mktemp("postgres"), durable=True)


@pytest.fixture
async def shop(durable_postgres: Any, tmp_path: Path) -> AppDatabase:
    """Emptied for every test: several times faster than a new database."""
    if not _made:
        _made.append(await durable_postgres.database("shop"))
    shop = AppDatabase(_made[0], tmp_path)
    await shop.run(EMPTY)
    return shop

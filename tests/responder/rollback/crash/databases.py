"""A stage on a real PostgreSQL: two revisions back, one of them outside of a transaction."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import psycopg

from responder.backends.postgres.client import DatabaseSettings
from responder.backends.postgres.schemas import Schemas
from responder.backends.resource import Resource
from tests.contents.database import contents
from tests.responder.rollback.crash.stages import Everything, RollbackScenario, shop

DSNS: list[str] = []
"""The database of this run, set by the fixture."""

_FRESH = """
DROP SCHEMA IF EXISTS rollback_keep CASCADE; DROP SCHEMA public CASCADE; CREATE SCHEMA public;
CREATE TABLE users (id int PRIMARY KEY, name text);
ALTER TABLE users ADD nick text; INSERT INTO users VALUES (1, 'ann', 'A');
CREATE INDEX by_name ON users (name);
CREATE TABLE schema_migrations (version text PRIMARY KEY); INSERT INTO schema_migrations VALUES (1), (2), (3)
"""


def migration(directory: Path) -> RollbackScenario:
    dsn = DSNS[0]

    def ask(sql: str) -> Any:
        with psycopg.connect(dsn, autocommit=True) as connection:
            cursor = connection.execute(sql)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else None

    for statement in _FRESH.split(";"):
        ask(statement)
    files = {
        "003_index.down": "DROP INDEX CONCURRENTLY by_name",
        "003_index.up": "CREATE INDEX CONCURRENTLY by_name ON users (name)",
        "002_nick.down": "ALTER TABLE users DROP COLUMN nick",
        "002_nick.up": "ALTER TABLE users ADD nick text",
    }
    for name, sql in files.items():
        (directory / f"{name}.sql").write_text(sql)

    def versions() -> Any:
        return ask("SELECT version FROM schema_migrations ORDER BY 1")

    def outside() -> Any:
        indexes = ask("SELECT indexname FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1")
        return {"rows": ask("SELECT users::text FROM users"), "at": versions(), "indexes": indexes}

    def stranger(resource: Resource) -> Awaitable[Any]:
        async def act() -> Any:
            ask("INSERT INTO schema_migrations VALUES ('99')")
            return "99"

        return act()

    migrations = {
        "database": "shop",
        "sql": {"directory": str(directory)},
        "revisions": {"2": "3"},
        "lock_timeout": "500ms",
        "within": "20s",
    }
    rollback = {"strategy": "database_migration", "migrations": migrations, "approval": "never"}
    rollback["smoke"] = [{"http": "http://smoke/"}]
    return shop(
        rollback,
        [{"http": "http://shop/health"}],
        outside=outside,
        rolled_back={"rows": [("(1,ann)",)], "at": [("1",)], "indexes": [("schema_migrations_pkey",), ("users_pkey",)]},
        everything=Everything(
            lambda: contents(dsn),
            [
                "/rows/public.users",
                "/rows/public.schema_migrations",
                "/columns/users.nick",
                "/schema/TABLE public.users",
                "/schema/INDEX public.by_name",
            ],
            {"*rollback_keep*": "removed data is preserved there"},
        ),
        stranger=stranger,
        clients={Schemas: Schemas((DatabaseSettings.model_validate({"name": "shop", "url": dsn}),))},
        written=versions,
    )


STAGES = {"database_migration": migration}

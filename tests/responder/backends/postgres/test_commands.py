"""`responder schema`, `responder preserved` and `responder check` for maintainers of a schema."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from responder.cli.main import main
from tests.responder.backends.postgres.conftest import AppDatabase
from tests.responder.backends.postgres.test_rollback import USERS, goes_back

CONFIG = """
state: sqlite://{directory}/state.db
prometheus: {{url: "http://localhost:9090"}}
alertmanager: {{urls: ["http://localhost:9093"]}}
databases: [{{name: shop, url: "{dsn}"}}]
services:
  - name: database
    environment: production
    rollback: {{strategy: database_migration, migrations: {{database: {database}, sql: {{directory: {directory}}}}}}}
    health_checks: [{{sql: "SELECT true", database: {checked}}}]
"""


def written(shop: AppDatabase, database: str = "shop", checked: str = "shop") -> list[str]:
    file = shop.directory / "responder.yml"
    file.write_text(CONFIG.format(directory=shop.directory, dsn=shop.dsn, database=database, checked=checked))
    return ["--config", str(file)]


async def run(*argv: str) -> int:
    return await asyncio.to_thread(main, list(argv))


async def test_preserved_data_is_listed_and_restored(shop: AppDatabase, capsys: pytest.CaptureFixture[str]) -> None:
    config = written(shop)
    assert await run("preserved", "list", "shop", *config) == 0
    assert capsys.readouterr().out == "no preserved data\n"
    await shop.apply(USERS, "ALTER TABLE users ADD nick text; UPDATE users SET nick = upper(name)")
    shop.file(2, "ALTER TABLE users DROP COLUMN nick")
    await goes_back(shop.rollback())
    assert await run("preserved", "list", "shop", *config) == 0
    assert 'drill-1: columns of "users" (nick) in rollback_keep.drill-1_1_users' in capsys.readouterr().out
    assert await run("preserved", "restore", "shop", "drill-1", *config) == 2
    assert "the table or column does not exist: run the migration again first" in capsys.readouterr().err
    await shop.run("ALTER TABLE users ADD nick text; UPDATE users SET nick = 'new' WHERE id = 1")
    assert await run("preserved", "restore", "shop", "drill-1", "--dry-run", *config) == 0
    assert capsys.readouterr().out == 'columns of "users": 1 rows\ndry run: nothing was changed\n'
    assert await run("preserved", "restore", "shop", "drill-1", *config) == 0
    assert await shop.rows("SELECT nick FROM users ORDER BY id") == [("new",), ("BOB",)]
    assert await run("preserved", "restore", "shop", "drill-1", "--overwrite", *config) == 0
    assert await shop.rows("SELECT nick FROM users ORDER BY id") == [("ANN",), ("BOB",)]
    assert await run("preserved", "restore", "shop", "another", *config) == 1
    capsys.readouterr()
    assert await run("preserved", "list", "shop", "--output", "json", *config) == 0
    assert json.loads(capsys.readouterr().out)[0]["columns"] == ["nick"]


async def test_the_fingerprint_of_a_schema_is_printed(shop: AppDatabase, capsys: pytest.CaptureFixture[str]) -> None:
    assert await run("schema", "shop", *written(shop)) == 0
    assert capsys.readouterr().out.startswith("schema:")
    assert await run("schema", "shpo", *written(shop)) == 2
    assert "unknown database 'shpo'" in capsys.readouterr().err


@pytest.mark.parametrize(("database", "checked"), [("shpo", "shop"), ("shop", "shpo")])
async def test_an_unknown_database_is_reported(
    shop: AppDatabase, capsys: pytest.CaptureFixture[str], database: str, checked: str
) -> None:
    assert await run("check", *written(shop, database, checked)) == 2
    assert "services[0]: no database shpo is configured (did you mean shop?)" in capsys.readouterr().out


async def test_check_live_reads_the_revision(
    shop: AppDatabase, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    await shop.run("CREATE TABLE schema_migrations (version text); INSERT INTO schema_migrations VALUES ('odd')")
    await run("check", "--live", *written(shop))
    out = capsys.readouterr().out
    assert "schema_migrations.version contains 'odd', expected a number" in out
    assert " services[0].rollback" in out

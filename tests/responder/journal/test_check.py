"""How `check --live` checks the journal: it creates and changes nothing, because an older version may be running."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import asyncpg
import pytest

from responder.errors import ConfigError
from responder.journal import check_journal, open_journal
from responder.journal.database import load_migrations
from responder.journal.open_executions import open_executions
from responder.journal.postgres import schema as postgres_schema
from responder.journal.sqlite import schema as sqlite_schema


async def _version(state: str) -> int:
    if state.startswith("sqlite"):
        with sqlite3.connect(state.removeprefix("sqlite://")) as connection:
            return int(connection.execute("PRAGMA user_version").fetchone()[0])
    connection = await asyncpg.connect(state)
    try:
        return int(await connection.fetchval("SELECT max(version) FROM schema_version"))
    finally:
        await connection.close()


async def _set_version(state: str, to: int) -> None:
    if state.startswith("sqlite"):
        with sqlite3.connect(state.removeprefix("sqlite://")) as connection:
            connection.execute(f"PRAGMA user_version = {to}")
        connection.close()
        return
    connection = await asyncpg.connect(state)
    await connection.execute(
        f"DELETE FROM schema_version WHERE version > {to}; INSERT INTO schema_version VALUES ({to})"
    )
    await connection.close()


async def test_a_usable_journal(state: str) -> None:
    await check_journal(state)
    opened = await open_journal(state)
    await check_journal(state)  # beside a responder that has it open
    await opened.close()


async def test_an_older_journal_is_left_unchanged(state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await (await open_journal(state)).close()
    for module in (sqlite_schema, postgres_schema):
        monkeypatch.setattr(module, "load_migrations", lambda: [*load_migrations(), "SELECT * FROM nowhere"])
    await check_journal(state)
    assert await _version(state) == len(load_migrations())


async def test_a_newer_journal_is_rejected(state: str) -> None:
    await (await open_journal(state)).close()
    await _set_version(state, 99)
    with pytest.raises(ConfigError, match="newer version of the responder"):
        await check_journal(state)


async def test_nothing_is_created(tmp_path: Path) -> None:
    await check_journal(f"sqlite://{tmp_path}/not/yet/state.db")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "state.db").write_text("this is no database, and it is long enough to have a header" * 9)
    with pytest.raises(ConfigError, match="file is not a database"):
        await check_journal(f"sqlite://{tmp_path}/state.db")
    assert [path.name for path in tmp_path.iterdir()] == ["state.db"]
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be used"):
        await check_journal(f"sqlite://{tmp_path}/file/state.db")


async def test_a_role_that_cannot_create_tables(postgres_server: object, monkeypatch: pytest.MonkeyPatch) -> None:
    dsn = str(await postgres_server.database("rights"))  # type: ignore[attr-defined]
    owner = await asyncpg.connect(dsn)
    await owner.execute("CREATE ROLE journal_reader LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    reader = dsn.replace("postgres@", "journal_reader@", 1)
    with pytest.raises(ConfigError, match="GRANT CREATE ON SCHEMA public TO journal_reader"):
        await check_journal(reader)
    await (await open_journal(dsn)).close()
    monkeypatch.setattr(postgres_schema, "load_migrations", lambda: [*load_migrations(), "SELECT * FROM nowhere"])
    await owner.execute("GRANT SELECT ON schema_version TO journal_reader")
    with pytest.raises(ConfigError, match="they belong to another role"):
        await check_journal(reader)
    await owner.close()


async def test_an_unreachable_server() -> None:
    with pytest.raises(ConfigError, match="cannot be used"):
        await check_journal("postgresql://nobody@127.0.0.1:1/none")


async def test_an_address_with_four_slashes_is_the_same_file(tmp_path: Path) -> None:
    """The form of SQLAlchemy."""
    state = f"sqlite:///{tmp_path / 'a b?.db'}"
    assert state.startswith("sqlite:////")
    await (await open_journal(state)).close()
    await check_journal(state)
    assert await open_executions(state) == frozenset()

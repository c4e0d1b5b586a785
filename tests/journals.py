"""Fixtures with an empty journal, for tests that run on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import re
import sqlite3
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from responder.config.private_files import FILE
from responder.errors import JournalUnavailable
from responder.journal import Database, Transaction, open_journal
from responder.journal.database import load_migrations
from responder.journal.sqlite.schema import migrate
from tests import parts

_numbers = count()
_emptied: list[str] = []
"""Emptied databases for reuse."""
_migrated: list[str] = []
"""A migrated database: copying it is several times faster than a migration."""


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One PostgreSQL for the session, with one database per journal.

    Only the outermost conftest.py imports it: every other import would start another server.
    """
    yield from served(tmp_path_factory.mktemp("postgres"), durable=False)


def served(directory: Path, *, durable: bool) -> Iterator[parts.Postgres]:
    """A PostgreSQL for many tests."""
    parts.need("postgres")
    server = parts.postgres(directory, durable=durable)
    loop = asyncio.new_event_loop()  # in its own thread: the loop of a test ends with the test
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    started = asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result()
    yield started
    asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def in_file(directory: Path) -> str:
    """The `state:` of a configuration: a new file with an empty journal."""
    file = directory / "state.db"
    file.write_bytes(_file())
    file.chmod(FILE)
    return f"sqlite://{file}"


@cache
def _file() -> bytes:
    """A migrated file: copying it is several times faster than a migration."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "state.db")
        migrate(file)
        return file.read_bytes()


@pytest.fixture(params=["sqlite", "postgres"])
async def state(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The `state:` of a configuration: a new file or database with an empty journal."""
    if request.param == "sqlite":
        return in_file(tmp_path)
    server = request.getfixturevalue("postgres_server")
    if _emptied:
        return _emptied.pop()
    if not _migrated:
        await (await open_journal(await server.database("journal"))).close()
        _migrated.append("journal")
    return str(await server.database(f"journal_{next(_numbers)}", like=_migrated[0]))


@pytest.fixture
async def journal(request: pytest.FixtureRequest, state: str) -> AsyncIterator[Database]:
    opened = await open_journal(state)
    yield opened
    # A test with the fixture `state` may modify the database arbitrarily.
    if not state.startswith("sqlite:") and "state" not in inspect.signature(request.function).parameters:
        with contextlib.suppress(JournalUnavailable):
            await opened.transaction(forget_everything)
            _emptied.append(state)
    await opened.close()


async def forget_everything(tx: Transaction) -> None:
    """Empties the journal, which is much faster than creating one."""
    connection: Any = tx._connection  # type: ignore[attr-defined]  # no query of the journal does this
    tables = re.findall(r"^CREATE TABLE (\w+)", "".join(load_migrations()), flags=re.MULTILINE)
    statements = [f"DELETE FROM {table}" for table in reversed(tables)]  # referencing tables are created later
    if isinstance(connection, sqlite3.Connection):
        for statement in statements:
            connection.execute(statement)
    else:
        await connection.execute("; ".join(statements))

"""The same tests on SQLite and on PostgreSQL: fixtures that hand out a fresh journal of either kind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from responder.journal import Database, open_journal
from tests import parts

_numbers = count()


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One PostgreSQL for the whole session; every journal gets a database of its own in it."""
    parts.need("postgres")
    server = parts.postgres(tmp_path_factory.mktemp("postgres"))
    loop = asyncio.new_event_loop()  # of its own, in a thread: each test has another one, which ends with it
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    started = asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result()
    yield started
    asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture(params=["sqlite", "postgres"])
async def state(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The `state:` of a configuration: a fresh file, or a fresh database."""
    if request.param == "sqlite":
        return f"sqlite://{tmp_path / 'state.db'}"
    server = request.getfixturevalue("postgres_server")
    return str(await server.database(f"journal_{next(_numbers)}"))


@pytest.fixture
async def journal(state: str) -> AsyncIterator[Database]:
    opened = await open_journal(state)
    yield opened
    await opened.close()

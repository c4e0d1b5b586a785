"""An engine that is emptied after each test, and the responder's client for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from responder.backends.docker.client import Docker, DockerSettings
from tests.engine import Engine


@pytest.fixture
def engine(whole_engine: Engine) -> Iterator[Engine]:
    whole_engine.clear()  # the crash drills share it, and leave the containers of the last one
    yield whole_engine
    whole_engine.clear()


@pytest.fixture
async def docker(engine: Engine) -> AsyncIterator[Docker]:
    client = await Docker.connect(DockerSettings(host=engine.url))
    yield client
    await client.close()

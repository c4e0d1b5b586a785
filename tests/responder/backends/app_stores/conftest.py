"""The stand-ins on sockets, and the responder's clients connected to them with real keys."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from responder.backends.app_stores.app_store_client import AppStore
from responder.backends.app_stores.google_play_client import GooglePlay
from tests.cdns.wire import serving
from tests.responder.backends.sites.conftest import moto, moto_aws  # noqa: F401
from tests.stores import FakeAppStore, FakePlay
from tests.stores.google_play import release
from tests.stores.keys import app_store_settings, play_settings


@pytest.fixture
async def play() -> AsyncIterator[tuple[FakePlay, GooglePlay]]:
    """Version 1 was released to all users, and 2 to 20 % of them."""
    fake = FakePlay(release(41, "1", "completed"), release(42, "2", "inProgress", 0.2))
    async with serving(fake.answer) as url:
        client = await GooglePlay.connect(play_settings(url))
        yield fake, client
        await client.close()


@pytest.fixture
async def apple() -> AsyncIterator[tuple[FakeAppStore, AppStore]]:
    fake = FakeAppStore()
    async with serving(fake.answer) as url:
        client = await AppStore.connect(app_store_settings(url))
        yield fake, client
        await client.close()

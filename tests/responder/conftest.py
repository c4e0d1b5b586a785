"""Shared fixtures of the responder's tests: a real journal in a file, and external servers."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import prometheus_api_client  # noqa: F401 - its first import takes longer than the deadlines of these tests
import pytest

from responder.backends.alertmanager.client import Alertmanager, AlertmanagerSettings
from responder.backends.connections import Connections
from responder.backends.prometheus.client import Prometheus, PrometheusSettings
from responder.journal import Database, open_journal
from tests.engine import Engine, docker_engine
from tests.journals import in_file
from tests.responder.outside import FakeAlertmanager, FakePrometheus


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await open_journal(in_file(tmp_path))
    yield opened
    await opened.close()


@pytest.fixture
async def alertmanager() -> AsyncIterator[FakeAlertmanager]:
    async with FakeAlertmanager().up() as up:
        yield up


@pytest.fixture
async def prometheus() -> AsyncIterator[FakePrometheus]:
    async with FakePrometheus().up() as up:
        yield up


@pytest.fixture
async def connections(alertmanager: FakeAlertmanager, prometheus: FakePrometheus) -> AsyncIterator[Connections]:
    """Connections to both, with short deadlines."""
    made = Connections(
        {
            Alertmanager: AlertmanagerSettings(urls=(alertmanager.url,), timeout=3.0),
            Prometheus: PrometheusSettings(url=prometheus.url, timeout=3.0),
        }.get
    )
    yield made
    await made.close()


@pytest.fixture(scope="session")
def whole_engine() -> Iterator[Engine]:
    """One Docker Engine for the whole run, with good, bad and broken images in it."""
    with docker_engine() as engine:
        engine.image("shop:1", "1", env={"CARTS": "old"})
        engine.image("shop:2", "2", env={"CARTS": "new"})
        engine.image("shop:3", "3")
        engine.image("shop:crashes", "crashes", starts=False)
        engine.image("shop:sick", "sick", healthy=False)
        for version in "123":
            engine.image(f"plain:{version}", version, check=False)
        engine.image("plain:crashes", "crashes", check=False, starts=False)
        yield engine


@pytest.fixture
def free_port() -> int:
    """A free port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])

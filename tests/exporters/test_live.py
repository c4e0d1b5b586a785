"""A reload replaces everything or nothing, and never closes connections of a running probe."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from exporters.errors import ConfigError
from exporters.live import Live
from exporters.metrics import OwnMetrics

ONE = "checks: [{id: one, service: s, environment: e, type: tcp, address: 'h:1'}]\n"
TWO = "checks: [{id: two, service: s, environment: e, type: tcp, address: 'h:1'}]\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "exporters.yml").write_text(ONE)
    return tmp_path / "exporters.yml"


@pytest.fixture
async def live(path: Path) -> AsyncIterator[Live]:
    live = Live(path, OwnMetrics())
    yield live
    await live.close()


def series(live: Live, name: str) -> float:
    value = live.metrics.registry.get_sample_value(name)
    assert value is not None
    return value


async def test_a_reload_replaces_the_whole_configuration(live: Live, path: Path) -> None:
    before = live.current
    path.write_text(TWO)
    await live.reload()
    assert list(live.current.config.by_id) == ["two"]
    await asyncio.sleep(0.01)
    assert before.connections.closed
    assert series(live, "exporter_config_last_reload_successful") == 1


@pytest.mark.parametrize("text", ["checks: [", "nonsense: 1", TWO.replace("h:1", "h"), f"listen: '127.0.0.1:1'\n{TWO}"])
async def test_an_invalid_file_keeps_the_old_configuration_and_is_reported(live: Live, path: Path, text: str) -> None:
    before, at = live.current, series(live, "exporter_config_last_reload_success_timestamp_seconds")
    path.write_text(text)
    with pytest.raises(ConfigError):
        await live.reload()
    assert live.current is before
    assert not before.connections.closed
    assert series(live, "exporter_config_last_reload_successful") == 0
    assert series(live, "exporter_config_last_reload_success_timestamp_seconds") == at
    path.write_text(TWO)
    await live.reload()
    assert series(live, "exporter_config_last_reload_successful") == 1


async def test_a_running_probe_keeps_its_connections(live: Live, path: Path) -> None:
    with live.borrowed() as value:
        path.write_text(TWO)
        await live.reload()
        await asyncio.sleep(0.01)
        assert not value.connections.closed
    await asyncio.sleep(0.01)
    assert value.connections.closed


async def test_closing_does_not_wait_for_probes_of_an_old_configuration(live: Live, path: Path) -> None:
    with live.borrowed() as value:
        await live.reload()
        await asyncio.sleep(0)
        await live.close()
        assert value.connections.closed

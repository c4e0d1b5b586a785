"""Some scenarios on real Prometheus and Alertmanager, with real clocks, several at a time."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests import parts
from tests.scenarios.real_time import play
from tests.scenarios.test_scenarios import SCENARIOS

REAL = [scenario for _, scenario in SCENARIOS if scenario.real]
AT_ONCE = 8


async def test_scenarios_on_real_processes(tmp_path: Path) -> None:
    parts.need("prometheus", "prometheus-alertmanager", "amtool")
    turns = asyncio.Semaphore(AT_ONCE)

    async def mistakes_of(number: int) -> str:
        async with turns:
            directory = tmp_path / f"{number}"
            directory.mkdir()
            try:
                await play(REAL[number], directory)
            except AssertionError as e:
                return f"{REAL[number].name}: {e}"
        return ""

    failed = [mistakes for mistakes in await asyncio.gather(*map(mistakes_of, range(len(REAL)))) if mistakes]
    assert not failed, "\n\n".join(failed)


def test_several_scenarios_run_on_real_processes() -> None:
    assert len(REAL) >= 10

"""Every scenario, in virtual time: it acts exactly when it should, and says why it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scenarios.rehearsal import Rehearsal
from tests.scenarios.scenario import Scenario, load, play
from tests.scenarios.virtual import VirtualLoop, run

FILES = sorted(Path(__file__).parent.glob("*.yaml"))
SCENARIOS = [(file.stem, scenario) for file in FILES for scenario in load(file)]


@pytest.mark.parametrize("scenario", [s for _, s in SCENARIOS], ids=[f"{stem}: {s.name}" for stem, s in SCENARIOS])
def test_scenario(scenario: Scenario, tmp_path: Path) -> None:
    async def rehearse(loop: VirtualLoop) -> None:
        async with Rehearsal(loop, tmp_path, scenario.given) as house:
            await play(scenario, house)

    run(scenario.given.start, rehearse)

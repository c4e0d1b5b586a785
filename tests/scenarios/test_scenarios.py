"""Every scenario in virtual time: the responder acts exactly when it should, and records why it does not."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from responder.decisions.guards import GUARDS
from tests.scenarios.scenario import Scenario, load, play
from tests.scenarios.simulated import SimulatedRunner
from tests.scenarios.virtual import VirtualLoop, run

FILES = sorted(Path(__file__).parent.glob("*.yaml"))
SCENARIOS = [(file.stem, scenario) for file in FILES for scenario in load(file)]
MEMORY = Path("/dev/shm")  # a thousand commits to a real disk take a minute


@pytest.mark.parametrize("scenario", [s for _, s in SCENARIOS], ids=[f"{stem}: {s.name}" for stem, s in SCENARIOS])
def test_scenario(scenario: Scenario) -> None:
    async def simulate(loop: VirtualLoop) -> None:
        async with SimulatedRunner(loop, Path(directory), scenario.given) as runner:
            await play(scenario, runner)

    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as directory:
        run(scenario.given.start, simulate)


def test_scenario_names_are_unique() -> None:
    names = [scenario.name for _, scenario in SCENARIOS]
    assert len(names) >= 60
    assert len(set(names)) == len(names), "two scenarios with one name"


def test_timelines_are_in_order() -> None:
    for _, scenario in SCENARIOS:
        times = [step.at for step in scenario.timeline]
        assert times == sorted(times), scenario.name


@pytest.mark.parametrize("guard", [guard.name for guard in GUARDS])
def test_every_guard_denies_in_some_scenario(guard: str) -> None:
    wanted = [decision for _, scenario in SCENARIOS for decision in scenario.expect.decisions]
    assert any(d.guard == guard and d.result in ("deny", "require_approval") for d in wanted)


@pytest.mark.parametrize("act", [name.removeprefix("act_") for name in dir(SimulatedRunner) if name.startswith("act_")])
def test_every_act_is_used(act: str) -> None:
    assert any(step.act == act for _, scenario in SCENARIOS for step in scenario.timeline)

"""World in, plan out: each strategy's plan as a table, and the situations in which it makes none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from responder.backends.connections import Connections
from responder.errors import StepFailed
from responder.rollback.gateway import Gateway
from responder.rollback.plan import Change, Gate, Plan
from responder.rollback.strategies import resources_of
from responder.rollback.version_change import VersionChange
from responder.services import planner
from tests.responder.rollback.crash.stages import STAGES, RollbackScenario, blue_green, immediate


async def plan_of(stage: RollbackScenario, from_version: str = "2", to_version: str = "1") -> Plan:
    version = VersionChange(service="shop", environment="test", from_version=from_version, to_version=to_version)
    planning = planner.Planning(services={"shop": stage.service}, hold_for=2.0, within=9.0)
    return await planner.plan([version], Gateway(Connections()), planning)


PLANS = [
    (immediate, ["current release of {}/shop: 2 → 1", "shop is healthy for 2s, within 9s"]),
    (
        blue_green,
        [
            "current release of {}/blue: 0 → 1",
            "blue is ready before it gets traffic, within 3s",
            "pointer in {}/live: green → blue",
            "blue is ready with the traffic, within 3s",
            "shop is healthy for 2s, within 9s",
        ],
    ),
]


@pytest.mark.parametrize(("make", "steps"), PLANS, ids=lambda x: getattr(x, "__name__", ""))
async def test_the_plan(make: Callable[[Path], RollbackScenario], steps: list[str], tmp_path: Path) -> None:
    stage = make(tmp_path)
    plan = await plan_of(stage)
    assert [str(step) for step in plan.steps] == [step.format(tmp_path) for step in steps]
    assert stage.outside() == stage.before  # a plan only reads
    assert Plan.model_validate_json(plan.model_dump_json()) == plan
    assert plan.hash == (await plan_of(stage)).hash


@pytest.mark.parametrize("make", STAGES.values(), ids=STAGES)
async def test_every_plan_ends_with_the_verification_and_freezes_there(
    make: Callable[[Path], RollbackScenario], tmp_path: Path
) -> None:
    last = (await plan_of(make(tmp_path))).steps[-1]
    assert isinstance(last, Gate)
    assert last.otherwise == "freeze"


@pytest.mark.parametrize("make", STAGES.values(), ids=STAGES)
async def test_what_runs_is_not_what_was_told(make: Callable[[Path], RollbackScenario], tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="but the deployments say that 3 runs"):
        await plan_of(make(tmp_path), from_version="3")


async def test_the_other_color_when_blue_is_live(tmp_path: Path) -> None:
    stage = blue_green(tmp_path)
    (tmp_path / "live").write_text("blue\n")
    changes = [step for step in (await plan_of(stage, from_version="0")).steps if isinstance(step, Change)]
    assert [(change.before, change.after) for change in changes] == [("2", "1"), ("blue", "green")]


async def test_a_color_that_is_none(tmp_path: Path) -> None:
    stage = blue_green(tmp_path)
    (tmp_path / "live").write_text("red\n")
    with pytest.raises(StepFailed, match="neither blue nor green"):
        await plan_of(stage)


def test_every_resource_of_a_strategy_is_found(tmp_path: Path) -> None:
    assert [str(resource) for resource in resources_of(blue_green(tmp_path).service.rollback)] == [
        f"pointer in {tmp_path}/live",
        f"current release of {tmp_path}/blue",
        f"current release of {tmp_path}/green",
    ]

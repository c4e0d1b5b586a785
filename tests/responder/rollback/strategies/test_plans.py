"""Each strategy's plan as a table, and the situations in which it makes none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from responder.backends.connections import Connections
from responder.errors import StepFailed
from responder.rollback.gateway import Gateway
from responder.rollback.plan import Change, Gate, Plan
from responder.rollback.strategies import STRATEGIES, AnyStrategy, resources_of
from responder.rollback.version_change import VersionChange
from responder.services import planner
from tests.responder.rollback.crash.stages import STAGES, RollbackScenario, blue_green, immediate

STRATEGY: TypeAdapter[Any] = TypeAdapter(AnyStrategy)


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
            "blue is ready before the switch, within 3s",
            "pointer in {}/live: green → blue",
            "blue is ready with traffic, within 3s",
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
async def test_another_version_runs_than_reported(make: Callable[[Path], RollbackScenario], tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="but 3 was reported as running"):
        await plan_of(make(tmp_path), from_version="3")


async def test_the_other_color_if_blue_is_live(tmp_path: Path) -> None:
    stage = blue_green(tmp_path)
    (tmp_path / "live").write_text("blue\n")
    changes = [step for step in (await plan_of(stage, from_version="0")).steps if isinstance(step, Change)]
    assert [(change.before, change.after) for change in changes] == [("2", "1"), ("blue", "green")]


async def test_an_invalid_color(tmp_path: Path) -> None:
    stage = blue_green(tmp_path)
    (tmp_path / "live").write_text("red\n")
    with pytest.raises(StepFailed, match="neither blue nor green"):
        await plan_of(stage)


async def test_any_resource_can_be_rolled_back_at_once(tmp_path: Path) -> None:
    """So can a resource of another distribution: `resource` accepts every registered one."""
    file = tmp_path / "version"
    file.write_text("2\n")
    strategy = STRATEGY.validate_python(
        {"strategy": "immediate", "resource": {"resource": "pointer_file", "file": str(file)}}
    )
    version = VersionChange(service="shop", environment="test", from_version="2", to_version="1")
    (step,) = (await strategy.plan(Gateway(Connections()), version)).steps
    assert str(step) == f"pointer in {file}: 2 → 1"


@pytest.mark.parametrize(
    "also", [{}, {"release": {"root": "/srv/shop"}, "resource": {"resource": "pointer_file", "file": "/srv/version"}}]
)
def test_exactly_one_resource_is_rolled_back(also: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="needs exactly one of release, kubernetes, docker, resource"):
        STRATEGY.validate_python({"strategy": "immediate", **also})


def test_each_strategy_is_registered_under_its_name() -> None:
    assert {name: model.model_fields["strategy"].default for name, model in STRATEGIES.all().items()} == {
        name: name for name in STRATEGIES.names
    }


def test_every_resource_of_a_strategy_is_found(tmp_path: Path) -> None:
    assert [str(resource) for resource in resources_of(blue_green(tmp_path).service.rollback)] == [
        f"pointer in {tmp_path}/live",
        f"current release of {tmp_path}/blue",
        f"current release of {tmp_path}/green",
    ]

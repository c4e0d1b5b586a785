"""Several services in one plan: their order, its description, and the progress of each after a failure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from responder import errors
from responder.backends.connections import Connections
from responder.rollback.events import Planned, StepCompleted, StepFailed, StepStarted
from responder.rollback.execution import Execution, begin
from responder.rollback.gateway import Gateway
from responder.rollback.plan import Change, Mitigation, Plan
from responder.rollback.version_change import VersionChange
from responder.services import planner
from responder.services.service import Service
from tests.responder.examples import NOW, accepted, version_change


def service(directory: Path, name: str, *needs: str) -> Service:
    """A service that runs version 2, in a directory."""
    root = directory / name
    if not root.exists():
        for version in "12":
            (root / "releases" / version).mkdir(parents=True)
        (root / "current").symlink_to("releases/2")
    fields = {
        "name": name,
        "environment": "test",
        "depends_on": needs,
        "rollback": {"strategy": "immediate", "release": {"root": str(root)}},
        "health_checks": [{"http": f"http://{name}/health"}],
    }
    return Service.model_validate(fields)


def version_of(service: Service, strategy: str = "") -> VersionChange:
    return version_change(service.name, service.environment, from_version="2", to_version="1", strategy=strategy)


def planning_of(services: list[Service], **more: Any) -> planner.Planning:
    by_name = {service.name: service for service in services}

    def needs(service: Service) -> list[Service]:
        direct = [by_name[name] for name in service.depends_on]
        return [*direct, *(indirect for needed in direct for indirect in needs(needed))]

    return planner.Planning(services=by_name, hold_for=1.0, within=2.0, needs=needs, **more)


async def plan(services: list[Service], **more: Any) -> Plan:
    return await planner.plan(list(map(version_of, services)), Gateway(Connections()), planning_of(services, **more))


@pytest.mark.parametrize(
    ("needs", "order"),
    [
        ({"frontend": ["backend"], "backend": ["database"], "database": []}, ["frontend", "backend", "database"]),
        ({"database": [], "backend": ["database"], "frontend": ["backend"]}, ["frontend", "backend", "database"]),
        ({"b": [], "a": []}, ["b", "a"]),
        ({"db": [], "a": ["db"], "b": ["db"], "c": ["a"]}, ["b", "c", "a", "db"]),
    ],
)
async def test_dependents_come_first(needs: dict[str, list[str]], order: list[str], tmp_path: Path) -> None:
    made = await plan([service(tmp_path, name, *its) for name, its in needs.items()])
    assert [(part.version.service, part.steps) for part in made.parts] == [(name, 1) for name in order]
    assert made.notes[0] == f"in this order: {' → '.join(order)}"
    assert [str(step) for step in made.steps][:-1] == [f"current release of {tmp_path}/{name}: 2 → 1" for name in order]


async def test_a_schema_comes_last_by_default(tmp_path: Path) -> None:
    first, second = service(tmp_path, "one"), service(tmp_path, "two")
    versions = [version_of(first, "database_migration"), version_of(second)]
    assert planner.dependents_first(versions, planning_of([first, second])) == versions[::-1]


async def test_another_order_states_its_reason(tmp_path: Path) -> None:
    parts = [service(tmp_path, "frontend", "backend"), service(tmp_path, "backend")]
    made = await plan(parts, order=["backend", "frontend"], because="the old frontend requires the old schema")
    assert made.notes[0] == "in this order: backend → frontend, because the old frontend requires the old schema"


async def test_all_services_are_verified(tmp_path: Path) -> None:
    made = await plan([service(tmp_path, "frontend", "backend"), service(tmp_path, "backend")])
    assert str(made.steps[-1]) == "frontend and backend are healthy for 1s, within 2s"
    assert len(made.steps[-1].checks) == 2  # type: ignore[union-attr]


async def test_a_service_without_a_plan_is_named(tmp_path: Path) -> None:
    parts = [service(tmp_path, "frontend"), service(tmp_path, "backend")]
    (tmp_path / "backend/current").unlink()
    (tmp_path / "backend/current").symlink_to("releases/1")
    with pytest.raises(errors.StepFailed, match="backend: the current release"):
        await plan(parts)


async def test_a_plan_for_one_service_has_no_prefix(tmp_path: Path) -> None:
    made = await plan([service(tmp_path, "backend")])
    assert [part.version.service for part in made.parts] == ["backend"]
    (note,) = made.notes
    assert note.startswith("no `restart` for the current release")
    assert str(made.steps[-1]) == "backend is healthy for 1s, within 2s"


def taken(plan: Plan, *steps: int) -> Execution:
    """The execution after the numbered steps."""
    execution = begin("x", accepted()).after(Planned(at=NOW, plan=plan))
    for step in steps:
        execution = execution.after(StepStarted(at=NOW, step=step, title=""))
        execution = execution.after(StepCompleted(at=NOW, step=step, changed=True))
    return execution


async def test_partial_progress_is_reported(tmp_path: Path) -> None:
    made = await plan([service(tmp_path, "frontend", "backend"), service(tmp_path, "backend")])
    drift = StepFailed(at=NOW, step=1, reason="changed by someone", freeze=True, drift=True)
    frozen = taken(made, 0).after(StepStarted(at=NOW, step=1, title="")).after(drift)
    assert frozen.state == "stuck"
    assert frozen.reason == "changed by someone (partial: frontend is back at 1; backend is between 2 and 1)"


async def test_a_partial_revert_is_reported(tmp_path: Path) -> None:
    made = await plan([service(tmp_path, "frontend", "backend"), service(tmp_path, "backend")])
    back = taken(made, 0, 1).after(StepFailed(at=NOW, step=2, reason="sick"))
    assert [str(step) for step in back.todo] == [
        str(step.inverse()) for step in reversed(made.steps[:2]) if isinstance(step, Change)
    ]
    halfway = back.after(StepStarted(at=NOW, step=3, title="")).after(StepCompleted(at=NOW, step=3, changed=True))
    stuck = halfway.after(StepFailed(at=NOW, step=4, reason="no way"))
    assert stuck.reason == "no way (partial: frontend is back at 1; backend is still 2)"


async def test_equal_progress_is_not_partial(tmp_path: Path) -> None:
    made = await plan([service(tmp_path, "frontend", "backend"), service(tmp_path, "backend")])
    frozen = (
        taken(made, 0, 1)
        .after(StepStarted(at=NOW, step=2, title=""))
        .after(StepFailed(at=NOW, step=2, reason="not healthy", freeze=True))
    )
    assert frozen.reason == "not healthy"


async def test_a_mitigation_belongs_to_its_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service_plan = Service.plan

    async def with_mitigation(self: Service, *args: Any) -> Any:
        made = await service_plan(self, *args)
        remains = Mitigation(platform="android", remains="publish it again")
        return made.model_copy(update={"mitigations": (remains,)}) if self.name == "kiosk" else made

    monkeypatch.setattr(Service, "plan", with_mitigation)
    made = await plan([service(tmp_path, "backend"), service(tmp_path, "kiosk")])
    assert [(mitigation.service, mitigation.platform) for mitigation in made.mitigations] == [("kiosk", "android")]


async def test_a_mitigation_never_ends_as_rolled_back(tmp_path: Path) -> None:
    made = await plan([service(tmp_path, "backend")])
    remains = Mitigation(platform="android", blocked_versions=("2",), remains="publish 3, built from 1")
    made = made.model_copy(update={"mitigations": (remains,)})
    assert taken(made, 0).ending is None
    assert taken(made, 0, 1).ending == "mitigated"
    turned = taken(made, 0).after(StepFailed(at=NOW, step=1, reason="sick"))
    assert (
        turned.after(StepStarted(at=NOW, step=2, title="")).after(StepCompleted(at=NOW, step=2, changed=True)).ending
        == "reverted"
    )

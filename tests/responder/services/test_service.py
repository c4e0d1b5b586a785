"""A service's plan is the steps of its strategy, followed by the verification."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from responder.backends.connections import Connections
from responder.errors import StepFailed
from responder.rollback.gateway import Gateway
from responder.rollback.plan import Change, Gate, Plan, ServicePlan
from responder.services.planner import Planning, plan
from responder.services.service import Service
from tests.responder.examples import service, version_change


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    for version in ("2.0", "2.1"):
        (tmp_path / "releases" / version).mkdir(parents=True)
    (tmp_path / "current").symlink_to("releases/2.1")
    return tmp_path


def of(root: Path, **other: object) -> Service:
    return service(rollback={"strategy": "immediate", "release": {"root": root}}, **other)


async def planned(backend: Service, hold_for: float = 0.0, within: float = 1.0) -> Plan:
    planning = Planning(services={"backend": backend}, hold_for=hold_for, within=within)
    return await plan([version_change()], Gateway(Connections()), planning)


async def test_the_plan_ends_with_the_verification(shop: Path) -> None:
    backend = of(shop, traffic_checks=({"promql": "rate(requests[1m])", "above": 0.0},))
    made = await planned(backend, hold_for=120.0, within=600.0)
    *changes, last = made.steps
    assert [str(m) for m in changes if isinstance(m, Change)] == [f"current release of {shop}: 2.1 → 2.0"]
    assert isinstance(last, Gate)
    assert (last.name, last.hold_for, last.within, last.otherwise) == ("backend is healthy", 120.0, 600.0, "freeze")
    assert last.checks == (*backend.health_checks, *backend.traffic_checks)
    assert made.parts == (ServicePlan(version=version_change(), steps=1),)


async def test_planning_changes_nothing(shop: Path) -> None:
    before = sorted(str(p) for p in shop.rglob("*"))
    await planned(of(shop))
    assert sorted(str(p) for p in shop.rglob("*")) == before
    assert (shop / "current").readlink() == Path("releases/2.1")


async def test_there_is_no_plan_if_another_version_runs_than_reported(shop: Path) -> None:
    (shop / "current").unlink()
    (shop / "current").symlink_to("releases/2.0")
    with pytest.raises(StepFailed, match=r"is 2.0, but 2.1 was reported as running; nothing was changed"):
        await planned(of(shop))


async def test_there_is_no_plan_if_no_version_runs(shop: Path) -> None:
    (shop / "current").unlink()
    with pytest.raises(StepFailed, match=r"is none, but 2.1 was reported as running; nothing was changed"):
        await planned(of(shop))


@pytest.mark.parametrize("name", ["backend", "a", "0", "shop-api.v2_x", "a" * 63])
def test_valid_names(name: str) -> None:
    assert service(name).name == name


@pytest.mark.parametrize("name", ["", "Backend", "-a", "a-", "a/b", "..", "a b", "ä", "a" * 64, "a\n", "{x}"])
def test_invalid_names(name: str) -> None:
    for wrong in ({"name": name}, {"environment": name}, {"depends_on": (name,)}):
        with pytest.raises(ValidationError, match="pattern"):
            service(**{"name": "backend", **wrong})


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"health_checks": ()}, "at least 1 item"),
        ({"health_checks": ({"promql": "up"},)}, "needs at least one of"),
        ({"rollback": {"strategy": "hope"}}, "hope"),
        ({"rollback": {}}, "strategy"),
        ({"color": "blue"}, "Extra inputs"),
    ],
)
def test_an_invalid_service_is_rejected(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        service(**wrong)

"""Deployments are recorded when another version runs, and never what a rollback changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import JsonValue, ValidationError

from responder.backends.connections import Connections
from responder.backends.resource import Resource
from responder.errors import Inconclusive
from responder.journal import Database, deployments
from responder.rollback.events import ApprovalRequested, Planned
from responder.rollback.gateway import Gateway
from responder.services import registry, rollbacks
from responder.services.observation import Observed, observe
from responder.services.service import Service
from tests.responder.examples import NOW, accepted, ago, deployment, plan, service


class Shop:
    """A service of release directories, and what the responder observes of it."""

    def __init__(self, root: Path, journal: Database, connections: Connections) -> None:
        self.root, self.journal, self.gateway = root, journal, Gateway(connections)
        self.service = service(rollback=_rollback(root), deployments="observed")

    def runs(self, version: str) -> None:
        (self.root / "releases" / version).mkdir(parents=True, exist_ok=True)
        new = self.root / "new"
        new.symlink_to(f"releases/{version}")
        new.replace(self.root / "current")

    async def observe(self) -> Observed:
        return await observe([self.service], self.journal, self.gateway)

    async def new(self) -> list[str]:
        observed = await self.observe()
        assert observed.failed == {}
        return [deployment.version for deployment in observed.new]


def _rollback(root: Path) -> dict[str, Any]:
    return {"strategy": "immediate", "release": {"root": str(root), "restart": ["true"]}}


@pytest.fixture
def shop(tmp_path: Path, journal: Database, connections: Connections) -> Shop:
    made = Shop(tmp_path, journal, connections)
    made.runs("1.0")
    return made


async def test_every_new_version_is_recorded_once(shop: Shop) -> None:
    assert [await shop.new(), await shop.new()] == [["1.0"], []]
    shop.runs("1.1")
    assert [await shop.new(), await shop.new()] == [["1.1"], []]
    newest = await shop.journal.read(deployments.newest, "backend", "production")
    assert newest is not None
    assert (newest.version, newest.status, newest.recorded_by) == ("1.1", "candidate", "observed")
    assert newest.provenance == f"observed: current release of {shop.root}"


async def test_a_reported_version_is_not_recorded_again(shop: Shop) -> None:
    await shop.journal.transaction(registry.record, deployment(version="1.0", at=ago(60)))
    assert await shop.new() == []


async def test_reported_deployments_are_not_observed(shop: Shop) -> None:
    shop.service = service(rollback=_rollback(shop.root))
    assert await shop.new() == []


async def test_what_a_rollback_changes_is_no_deployment(shop: Shop) -> None:
    await shop.journal.transaction(registry.record, deployment(version="1.1", at=ago(60)))
    opened = await shop.journal.transaction(rollbacks.accept, "r1", accepted(from_version="1.1", to_version="1.0"))
    assert await shop.new() == []
    await shop.journal.transaction(rollbacks.append, opened, (Planned(at=NOW, plan=plan()),), None)
    assert await shop.new() == []


async def test_a_deployment_beside_a_plan_that_awaits_approval_is_recorded(shop: Shop) -> None:
    await shop.journal.transaction(registry.record, deployment(version="0.9", at=ago(60)))
    opened = await shop.journal.transaction(rollbacks.accept, "r1", accepted(from_version="0.9", to_version="0.8"))
    waits = ApprovalRequested(at=NOW, until=NOW, reason="the policy says so")
    await shop.journal.transaction(rollbacks.append, opened, (Planned(at=NOW, plan=plan()), waits), None)
    assert await shop.new() == ["1.0"]


@pytest.mark.parametrize("meanwhile", ["deployment", "rollback"])
async def test_what_was_read_before_another_change_is_not_recorded(shop: Shop, meanwhile: str) -> None:
    class Slow(Gateway):
        async def read(self, resource: Resource) -> JsonValue:
            found = await super().read(resource)
            if meanwhile == "deployment":
                await shop.journal.transaction(registry.record, deployment(id="d2", version="1.2"))
            else:
                await shop.journal.transaction(rollbacks.accept, "r1", accepted())
            return found

    await shop.journal.transaction(registry.record, deployment(version="0.9", at=ago(60)))
    observed = await observe([shop.service], shop.journal, Slow(shop.gateway._connections))
    assert observed == Observed([], {})


async def test_a_service_that_cannot_be_looked_at_affects_no_other(shop: Shop) -> None:
    class Broken(Gateway):
        async def read(self, resource: Resource) -> JsonValue:
            if "nowhere" in str(resource):
                raise Inconclusive("reading timed out")
            return await super().read(resource)

    lost = service("frontend", rollback=_rollback(shop.root / "nowhere"), deployments="observed")
    observed = await observe([lost, shop.service], shop.journal, Broken(shop.gateway._connections))
    assert [deployment.version for deployment in observed.new] == ["1.0"]
    assert observed.failed == {("frontend", "production"): "reading timed out"}


def test_a_strategy_that_does_not_show_the_version_is_a_mistake() -> None:
    colors = {
        c: {"release": {"root": f"/srv/{c}", "restart": ["true"]}, "ready": [{"http": "http://x"}]}
        for c in ("blue", "green")
    }
    rollback = {"strategy": "blue_green", "pointer": {"file": "/srv/live", "restart": ["true"]}, "colors": colors}
    with pytest.raises(
        ValidationError, match="deployments: observed needs a rollback of strategy immediate or rolling"
    ):
        Service.model_validate_json(
            service().model_copy(update={"rollback": rollback, "deployments": "observed"}).model_dump_json()
        )

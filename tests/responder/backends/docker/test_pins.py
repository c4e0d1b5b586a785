"""An override file keeps the good version until another deployment is reported; status and report name it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from responder.backends.docker.client import Docker
from responder.backends.docker.compose_override import ComposeOverride
from responder.backends.host.client import Local
from responder.decisions.policy_set import PolicySet
from responder.errors import LeaseLost
from responder.journal import Database, Transaction, executions
from responder.journal.deployments import Deployment
from responder.rollback.events import Accepted, Closed, Planned, StepCompleted, StepStarted
from responder.rollback.gateway import Gateway
from responder.rollback.plan import Change, Plan
from responder.runtime.pins import remove_outdated_pins
from responder.services import registry, rollbacks
from responder.services.pins import pins_of
from responder.services.service import Service
from tests.compose import Compose
from tests.engine import Engine
from tests.parts import free_port
from tests.responder.examples import NOW
from tests.responder.harness import FixedConnections, Rollback

DOCKER = {"project": "shop", "service": "backend", "min_uptime": "0s"}
RUNS = [{"containers": {"project": "shop", "service": "backend"}}]


def services() -> dict[str, Any]:
    ports = [f"127.0.0.1:{free_port()}:8080"]
    return {"backend": {"image": "plain:2", "ports": ports, "stop_signal": "SIGKILL"}}


def rollback(docker: Docker, *, from_version: str = "2", to_version: str = "1", **more: Any) -> Rollback:
    strategy = {"strategy": "immediate", "docker": {**DOCKER, **more}}
    clients = {Docker: docker, Local: Local()}
    return Rollback(strategy, clients, from_version=from_version, to_version=to_version, health_checks=RUNS)


def image(engine: Engine) -> str:
    return str(engine.inspect("shop-backend-1")["Config"]["Image"])


async def test_a_second_rollback_changes_the_override_of_the_first(
    engine: Engine, docker: Docker, tmp_path: Path
) -> None:
    """After `up`, the containers list the override as a file of the project."""
    compose = Compose(engine, tmp_path, services())
    compose("up", "-d")
    assert (await rollback(docker).run()).outcome == "succeeded"
    compose("up", "-d")
    assert image(engine) == "plain:1"
    ended = await rollback(docker, from_version="1", to_version="3").run()
    assert ended.outcome == "succeeded", ended.reason
    compose("up", "-d")
    assert image(engine) == "plain:3"


async def test_a_configured_override_exists_at_all_times(engine: Engine, docker: Docker, tmp_path: Path) -> None:
    """`docker compose -f` fails if one of its files is missing."""
    override = tmp_path / "rollback.yaml"
    override.write_text("services: {}\n")
    compose = Compose(engine, tmp_path, services())
    files = ("-f", str(compose.file), "-f", str(override))
    compose(*files, "up", "-d")
    ended = await rollback(docker, override=str(override)).run()
    assert ended.outcome == "succeeded", ended.reason
    assert ended.plan
    assert ended.plan.notes == (f"{override} keeps backend at plain:1: remove it before you deploy another version",)
    compose(*files, "up", "-d")
    assert image(engine) == "plain:1"
    (pin,) = [s.resource for s in ended.plan.steps if isinstance(s, Change) and isinstance(s.resource, ComposeOverride)]
    await pin.write(Local(), None, expected="plain:1")
    assert yaml.safe_load(override.read_text()) == {"services": {}}
    compose(*files, "up", "-d")
    assert image(engine) == "plain:2"


async def test_a_configured_override_that_the_project_does_not_read_is_reported(
    engine: Engine, docker: Docker, tmp_path: Path
) -> None:
    Compose(engine, tmp_path, services())("up", "-d")
    plan = await rollback(docker, override=f"{tmp_path}/rollback.yaml").plan()
    assert plan.notes[0].endswith(f"; only `-f {tmp_path}/rollback.yaml` reads it")


SERVICE = Service.model_validate(
    {
        "name": "shop",
        "environment": "test",
        "health_checks": [{"http": "http://127.0.0.1:1/"}],
        "rollback": {"strategy": "immediate", "docker": DOCKER},
    }
)


async def rolled_back(journal: Database, file: Path, *, closed: bool = True) -> None:
    """A rollback from 2 to 1 in the journal, and the file that it wrote."""
    pin = ComposeOverride(file=file, service="backend")
    change = Change(resource=pin, before=None, after="plain:1")
    plan = Plan.model_validate({"parts": [{"version": version(), "steps": 1}], "steps": [change]})
    accepted = Accepted(
        at=NOW, service="shop", environment="test", policy="p", strategy="immediate", from_version="2", to_version="1",
        requested_by="test", reason="a test", received_at=NOW,
    )  # fmt: skip
    events = (
        Planned(at=NOW, plan=plan),
        StepStarted(at=NOW, step=0, title=str(change)),
        StepCompleted(at=NOW, step=0, changed=True),
        *((Closed(at=NOW, outcome="succeeded", by="responder", reason="done"),) if closed else ()),
    )

    async def act(tx: Transaction) -> None:
        execution = await rollbacks.accept(tx, executions.new_id(NOW), accepted)
        await rollbacks.append(tx, execution, events, None)

    await journal.transaction(act)
    await pin.write(Local(), "plain:1", expected=None)


def version() -> dict[str, str]:
    return {"service": "shop", "environment": "test", "from_version": "2", "to_version": "1"}


async def deploy(journal: Database, version: str) -> None:
    deployment = Deployment(
        id=f"d-{version}", service="shop", environment="test", version=version, at=NOW, recorded_by="test"
    )
    await journal.transaction(lambda tx: registry.record(tx, deployment))


async def removed(journal: Database, guard: Callable[[], None] = lambda: None) -> list[str]:
    gateway = Gateway(FixedConnections({Local: Local()}), guard=guard)
    return await remove_outdated_pins(journal, PolicySet(services=(SERVICE,)), gateway)


async def test_a_reported_deployment_removes_the_pin(journal: Database, tmp_path: Path) -> None:
    file = tmp_path / "compose.override.yaml"
    for deployed in ("1", "2"):
        await deploy(journal, deployed)
    await rolled_back(journal, file)
    pinned = f"{file} keeps backend at plain:1"
    assert (await journal.read(pins_of, "shop", "test")).active == [pinned]
    assert await removed(journal) == []
    assert file.exists()
    await deploy(journal, "3")
    assert (await journal.read(pins_of, "shop", "test")).active == []
    assert await removed(journal) == [pinned]
    assert not file.exists()
    assert await removed(journal) == []


@pytest.mark.parametrize("case", ["open", "changed"])
async def test_the_pin_of_an_open_rollback_and_of_someone_else_stay(
    case: str, journal: Database, tmp_path: Path
) -> None:
    file = tmp_path / "compose.override.yaml"
    await deploy(journal, "2")
    await rolled_back(journal, file)
    await deploy(journal, "3")
    if case == "open":
        await rolled_back(journal, tmp_path / "other.yaml", closed=False)
    else:
        file.write_text("services: {backend: {image: plain:7}}\n")
    text = file.read_text()
    assert await removed(journal) == []
    assert file.read_text() == text


async def test_a_replica_without_its_lease_removes_no_pin(journal: Database, tmp_path: Path) -> None:
    """Another replica may have rolled the service back again, to the same version."""

    def lost() -> None:
        raise LeaseLost("the lease ended")

    file = tmp_path / "compose.override.yaml"
    await deploy(journal, "2")
    await rolled_back(journal, file)
    await deploy(journal, "3")
    with pytest.raises(LeaseLost):
        await removed(journal, lost)
    assert file.exists()

"""Only containers that a replica created after it lost its lease are removed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from responder.backends.docker.client import Docker, DockerSettings
from responder.backends.docker.service_image import ServiceImage
from responder.decisions.policy_set import PolicySet
from responder.errors import LeaseLost
from responder.journal import Database, Transaction, executions
from responder.rollback.events import Accepted, Closed
from responder.runtime.leftovers import remove_leftovers
from responder.services import rollbacks
from responder.services.service import Service
from responder.transport.acting import acting
from tests.engine import Engine
from tests.parts import free_port
from tests.responder.examples import NOW
from tests.responder.harness import FixedConnections

IMAGE = ServiceImage(project="shop", service="backend", number=1)
OURS = "io.rollback-responder."


async def value(docker: Docker, tag: str) -> Any:
    found = await docker.image(f"shop:{tag}")
    assert found
    return {"image": found["Id"], "name": f"shop:{tag}"}


def late(engine: Engine, execution: str, *, name: str = "shop-backend-1", ours: bool = True) -> str:
    """The name of a container that a stalled replica created too late."""
    pattern = engine.inspect("shop-backend-1")
    labels = {**pattern["Config"]["Labels"], **({f"{OURS}execution": execution} if ours else {})}
    late_name = f"{name}_next_{len(engine.containers()):012x}"
    config = {"Image": "shop:1", "Labels": labels, "HostConfig": {"NetworkMode": "none"}}
    engine.call("POST", "/containers/create", config, name=late_name)
    return late_name


async def executed(journal: Database, service: str, *, closed: bool) -> str:
    """The ID of a rollback in the journal."""
    accepted = Accepted(
        at=NOW, service=service, environment="test", policy="p", strategy="immediate", from_version="2", to_version="1",
        requested_by="test", reason="a test", received_at=NOW,
    )  # fmt: skip

    async def act(tx: Transaction) -> str:
        execution = await rollbacks.accept(tx, executions.new_id(NOW), accepted)
        if closed:
            await rollbacks.append(tx, execution, (Closed(at=NOW, outcome="failed", by="test", reason="over"),), None)
        return execution.id

    return await journal.transaction(act)


def policy_set(**rollback: Any) -> PolicySet:
    service = {"name": "shop", "environment": "test", "health_checks": [{"http": "http://127.0.0.1:1/"}]}
    return PolicySet(services=(Service.model_validate({**service, "rollback": {"strategy": "immediate", **rollback}}),))


DOCKER = policy_set(docker={"project": "shop", "service": "backend"})


async def test_only_leftovers_of_closed_rollbacks_are_removed(
    engine: Engine, docker: Docker, journal: Database
) -> None:
    engine.compose("backend", "shop:2", port=free_port())
    over, live = await executed(journal, "shop", closed=True), await executed(journal, "cart", closed=False)
    leftover = late(engine, over)
    stay = {
        "shop-backend-1",
        late(engine, live),  # it may be part of a running switch
        late(engine, "20261123-231500-4f2a9c1b"),  # of another responder on the same engine
        late(engine, over, ours=False),
        late(engine, "", name="shop-cart-1"),
        running := late(engine, over),
    }
    engine.call("POST", f"/containers/{running}/start")
    assert await remove_leftovers(journal, DOCKER, FixedConnections({Docker: docker})) == [leftover]
    assert engine.containers().keys() == stay
    assert await remove_leftovers(journal, DOCKER, FixedConnections({Docker: docker})) == []


async def test_no_engine_is_queried_unless_a_service_needs_it(journal: Database, tmp_path: Any) -> None:
    release = policy_set(release={"root": "/srv/shop", "releases": "releases", "restart": ["/bin/true"]})
    assert await remove_leftovers(journal, release, FixedConnections({Docker: None})) == []  # type: ignore[dict-item]


async def test_an_unavailable_engine_is_retried_at_the_next_run(journal: Database) -> None:
    away = Docker(DockerSettings(host="tcp://127.0.0.1:1"))
    assert await remove_leftovers(journal, DOCKER, FixedConnections({Docker: away})) == []
    await away.close()


async def test_a_process_that_loses_its_lease_leaves_no_container(engine: Engine, docker: Docker) -> None:
    engine.compose("backend", "shop:2", port=free_port())
    calls: list[None] = []

    def superseded_after_the_first_change() -> None:
        if calls:
            raise LeaseLost("the lease has run out")
        calls.append(None)

    token = acting.set(superseded_after_the_first_change)
    try:
        with pytest.raises(LeaseLost):
            await IMAGE.write(docker, await value(docker, "1"), expected=await value(docker, "2"))
    finally:
        acting.reset(token)
    assert engine.containers().keys() == {"shop-backend-1"}


async def test_a_leftover_during_the_start_does_not_revert_the_rollback(engine: Engine, docker: Docker) -> None:
    engine.compose("backend", "shop:2", port=free_port())
    good = await value(docker, "1")
    await IMAGE.write(docker, good, expected=await value(docker, "2"))
    late(engine, "x")
    assert not await IMAGE.converged(docker, good)
    await IMAGE.assist(docker, good)
    assert engine.containers().keys() == {"shop-backend-1"}


async def test_concurrent_removals_succeed(engine: Engine, docker: Docker) -> None:
    engine.compose("backend", "shop:2", port=free_port())
    for _ in range(5):
        late_name = late(engine, "x")
        await asyncio.gather(*(docker.remove(late_name) for _ in range(8)))
    assert engine.containers().keys() == {"shop-backend-1"}

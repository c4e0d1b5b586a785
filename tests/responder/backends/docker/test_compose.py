"""After any command of the real Compose, the data still exists and no kept copy starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from responder.backends.docker.client import Docker
from responder.backends.host.client import Local
from responder.rollback.execution import begin
from responder.rollback.gateway import Gateway
from responder.rollback.plan import Change
from tests.compose import Compose
from tests.engine import Engine
from tests.parts import free_port
from tests.responder.harness import Rollback

ROLLBACK = {"strategy": "immediate", "docker": {"project": "shop", "service": "backend", "min_uptime": "0s"}}
RUNS = [{"containers": {"project": "shop", "service": "backend"}}]


class ComposeProject:
    """One service of the bad version 2, with an anonymous volume, created by the real Compose."""

    def __init__(self, engine: Engine, docker: Docker, directory: Path, *up: str, **service: Any) -> None:
        self.engine, self.docker = engine, docker
        ports = [f"127.0.0.1:{free_port()}:8080"]
        backend = {"image": "plain:2", "ports": ports, "volumes": ["/data"], "stop_signal": "SIGKILL", **service}
        self.compose = Compose(engine, directory, {"backend": backend})
        self.compose(*up, "up", "-d")
        engine.put("shop-backend-1", "/data/x", "precious")
        engine.put("shop-backend-1", "/www/layer", "written into the layer")

    def rollback(self, to_version: str = "1") -> Rollback:
        return Rollback(ROLLBACK, {Docker: self.docker, Local: Local()}, to_version=to_version, health_checks=RUNS)

    def kept(self) -> dict[str, str]:
        """The kept copies and their states, by name."""
        every = self.engine.call("GET", "/containers/json", all="true")
        return {
            container["Names"][0].lstrip("/"): container["State"]
            for container in every
            if "_kept_" in container["Names"][0]
        }

    def assert_sane(self, version: str, *, count: int = 1) -> None:
        """Only containers of this version run, with the data; kept copies were never started."""
        found = self.engine.containers()
        assert sorted(found) == [f"shop-backend-{n}" for n in range(1, count + 1)]
        for name, container in found.items():
            runs = {item.partition("=")[2] for item in self.engine.inspect(name)["Config"]["Env"] if "VERSION" in item}
            assert (runs, container["State"]) == ({version}, "running"), name
        assert self.engine.get("shop-backend-1", "/data/x") == "precious"
        assert set(self.kept().values()) <= {"created"}


@pytest.mark.parametrize(
    ("to_version", "outcome", "version"),
    [("1", "succeeded", "1"), ("crashes", "reverted", "2")],
    ids=["after a rollback", "after a revert"],
)
async def test_compose_up_works_after_a_rollback(
    to_version: str, outcome: str, version: str, engine: Engine, docker: Docker, tmp_path: Path
) -> None:
    shop = ComposeProject(engine, docker, tmp_path)
    ended = await shop.rollback(to_version).run()
    assert ended.outcome == outcome, ended.reason
    shop.assert_sane(version)
    kept = shop.kept()
    if version == "1":
        (copy,) = kept
        assert engine.get(copy, "/www/layer") == "written into the layer"
    else:
        assert engine.get("shop-backend-1", "/www/layer") == "written into the layer"
    compose = shop.compose
    for command in (("restart",), ("stop",), ("start",), ("rm", "-f"), ("ps", "-a"), ("up", "-d")):
        printed = compose(*command)
        assert "_kept_" not in printed
        if command != ("stop",):
            shop.assert_sane(version)
    compose.spec["services"]["backend"]["ports"] = ["127.0.0.1::8080"]
    compose.write()
    compose("up", "-d", "--scale", "backend=2")
    shop.assert_sane(version, count=2)
    compose("down")
    assert engine.containers() == {}
    assert shop.kept() == kept
    compose("up", "-d")
    engine.put("shop-backend-1", "/data/x", "precious")  # `down` drops anonymous volumes, with or without the responder
    shop.assert_sane(version)


async def test_compose_up_without_the_override_restores_the_bad_image(
    engine: Engine, docker: Docker, tmp_path: Path
) -> None:
    """`-f compose.yaml` restores the bad version of that file, in a new container and never from a kept copy."""
    shop = ComposeProject(engine, docker, tmp_path, "-f", "compose.yaml")
    assert (await shop.rollback().run()).outcome == "succeeded"
    kept = shop.kept()
    shop.compose("-f", "compose.yaml", "up", "-d")
    shop.assert_sane("2")
    assert shop.kept() == kept


async def test_a_second_rollback_works_after_a_revert(engine: Engine, docker: Docker, tmp_path: Path) -> None:
    """The restored container runs on a commit of the first one, and still counts as version 2."""
    shop = ComposeProject(engine, docker, tmp_path, environment={"MODE": "live"})
    assert (await shop.rollback("crashes").run()).outcome == "reverted"
    ended = await shop.rollback().run()
    assert ended.outcome == "succeeded", ended.reason
    shop.assert_sane("1")
    assert "MODE=live" in engine.inspect("shop-backend-1")["Config"]["Env"]
    assert len(shop.kept()) == 3


class SimulatedCrash(BaseException):
    pass


async def crash_before(shop: ComposeProject, write: int, to_version: str) -> Rollback | None:
    """A rollback that ends right before write number N; None if it has fewer writes."""
    rollback, left = shop.rollback(to_version), [write]

    def guard() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise SimulatedCrash

    rollback.gateway = Gateway(rollback.connections, guard=guard, retry_every=0.01)
    try:
        await rollback.run(through=without_file)
    except SimulatedCrash:
        rollback.gateway = Gateway(rollback.connections, retry_every=0.01)
        execution = begin("drill-1", rollback.execution.accepted)
        for event in rollback.record.events:
            execution = execution.after(event)
        rollback.execution = execution
        return rollback
    return None


def without_file(plan: Any) -> Any:
    """Only the container remains, so that every write counts."""
    return plan.model_copy(
        update={
            "steps": tuple(
                s for s in plan.steps if not (isinstance(s, Change) and s.resource.resource == "compose_override")
            )
        }
    )


@pytest.mark.parametrize(
    ("to_version", "version"),
    [
        pytest.param("1", "1", id="rollback"),
        pytest.param("crashes", "2", id="revert", marks=pytest.mark.soak),  # a minute and a half
    ],
)
async def test_a_crash_before_any_write_is_recovered(
    to_version: str, version: str, engine: Engine, docker: Docker, tmp_path: Path
) -> None:
    write = 0
    while True:
        engine.clear()
        shop = ComposeProject(engine, docker, tmp_path)
        rollback = await crash_before(shop, write, to_version)
        if rollback is None:
            break
        ended = await rollback.run(through=without_file)
        assert ended.outcome == ("succeeded" if version == "1" else "reverted"), (write, ended.reason)
        shop.assert_sane(version)
        write += 1
    assert write >= 9

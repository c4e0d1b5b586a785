"""Containers that share the namespaces of a replaced one share those of the new one, or the plan is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from responder.backends.docker.client import Docker
from responder.backends.host.client import Local
from tests.compose import Compose
from tests.engine import Engine
from tests.parts import free_port
from tests.responder.harness import Rollback

ROLLBACK = {"strategy": "immediate", "docker": {"project": "shop", "service": "backend", "min_uptime": "0s"}}
RUNS = [{"containers": {"project": "shop", "service": "backend"}}]
SLEEPS = {"image": "plain:3", "stop_signal": "SIGKILL", "command": ["/bin/busybox", "sleep", "600"]}


def rollback(docker: Docker, to_version: str = "1") -> Rollback:
    return Rollback(ROLLBACK, {Docker: docker, Local: Local()}, to_version=to_version, health_checks=RUNS)


def project(engine: Engine, directory: Path, **services: Any) -> Compose:
    """The bad backend with a published port, and these services, created by the real Compose."""
    ports = [f"127.0.0.1:{free_port()}:8080"]
    backend = {"image": "plain:2", "ports": ports, "stop_signal": "SIGKILL"}
    compose = Compose(engine, directory, {"backend": backend, **services})
    compose("up", "-d")
    return compose


def answered(engine: Engine, name: str) -> str:
    """The version that answers on the loopback address of this container."""
    wget = ["/bin/busybox", "wget", "-q", "-O", "-", "http://127.0.0.1:8080/"]
    made = engine.call("POST", f"/containers/{name}/exec", {"AttachStdout": True, "Cmd": wget})
    answer = engine.call("POST", f"/exec/{made['Id']}/start", {"Detach": False, "Tty": True})
    return str(answer["version"])


@pytest.mark.parametrize(
    ("to_version", "outcome", "runs"),
    [("1", "succeeded", "1"), ("crashes", "reverted", "2")],
    ids=["after a rollback", "after a revert"],
)
async def test_containers_that_share_the_network_are_recreated(
    to_version: str, outcome: str, runs: str, engine: Engine, docker: Docker, tmp_path: Path
) -> None:
    proxy = {**SLEEPS, "network_mode": "service:backend", "pid": "service:backend", "volumes": ["/data"]}
    compose = project(engine, tmp_path, proxy=proxy, stopped={**SLEEPS, "network_mode": "service:backend"})
    compose("stop", "stopped")
    engine.put("shop-proxy-1", "/data/x", "precious")
    ended = await rollback(docker, to_version).run()
    assert ended.outcome == outcome, ended.reason
    assert ended.plan
    assert ended.plan.notes[:2] == (
        "shop-proxy-1 shares the network and PID namespace of shop-backend-1 and is recreated with it",
        "shop-stopped-1 shares the network of shop-backend-1 and is recreated with it",
    )
    backend = engine.inspect("shop-backend-1")["Id"]
    for name, state in (("shop-proxy-1", "running"), ("shop-stopped-1", "exited")):
        found = engine.inspect(name)
        assert found["HostConfig"]["NetworkMode"] == f"container:{backend}"
        assert found["State"]["Running"] == (state == "running"), found["State"]
    assert answered(engine, "shop-proxy-1") == runs
    assert engine.get("shop-proxy-1", "/data/x") == "precious"
    compose("restart", "proxy")
    compose("start")
    assert sorted(engine.containers()) == ["shop-backend-1", "shop-proxy-1", "shop-stopped-1"]
    compose("up", "-d")
    assert answered(engine, "shop-proxy-1") == runs


async def test_a_foreign_container_is_reported_and_unchanged(engine: Engine, docker: Docker, tmp_path: Path) -> None:
    project(engine, tmp_path)
    network = f"container:{engine.inspect('shop-backend-1')['Id']}"
    debug = {"Image": "plain:3", "HostConfig": {"NetworkMode": network}}
    engine.call("POST", "/containers/create", debug, name="debug")
    ended = await rollback(docker).run()
    assert ended.outcome == "succeeded", ended.reason
    assert ended.plan
    assert ended.plan.notes[0] == "debug shares the network of shop-backend-1 and loses it: recreate it afterwards"
    assert engine.inspect("debug")["HostConfig"]["NetworkMode"] == network


def inside_vpn(engine: Engine, directory: Path) -> Compose:
    """A backend in the network of another service."""
    vpn = {**SLEEPS, "ports": [f"127.0.0.1:{free_port()}:8080"]}
    backend = {"image": "plain:2", "stop_signal": "SIGKILL", "network_mode": "service:vpn"}
    compose = Compose(engine, directory, {"vpn": vpn, "backend": backend})
    compose("up", "-d")
    return compose


@pytest.mark.parametrize(("to_version", "outcome"), [("1", "succeeded"), ("crashes", "reverted")])
async def test_a_service_in_the_network_of_another_is_rolled_back(
    to_version: str, outcome: str, engine: Engine, docker: Docker, tmp_path: Path
) -> None:
    compose = inside_vpn(engine, tmp_path)
    ended = await rollback(docker, to_version).run()
    assert ended.outcome == outcome, ended.reason
    vpn = engine.inspect("shop-vpn-1")["Id"]
    assert engine.inspect("shop-backend-1")["HostConfig"]["NetworkMode"] == f"container:{vpn}"
    assert answered(engine, "shop-vpn-1") == ("1" if to_version == "1" else "2")
    compose("up", "-d")
    assert engine.inspect("shop-vpn-1")["Id"] == vpn


async def test_a_missing_network_of_another_is_refused_before_any_change(
    engine: Engine, docker: Docker, tmp_path: Path
) -> None:
    inside_vpn(engine, tmp_path)
    vpn, before = engine.inspect("shop-vpn-1")["Id"], engine.inspect("shop-backend-1")
    engine.call("DELETE", f"/containers/{vpn}", force="true")
    ended = await rollback(docker).run()
    assert ended.outcome == "failed"
    assert f"shop-backend-1 shares the network of container {vpn[:12]}, which is removed" in ended.reason
    assert engine.inspect("shop-backend-1")["Id"] == before["Id"]

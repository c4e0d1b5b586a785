"""With each setting and call of the real Compose: a rollback changes only the version, and Compose keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from responder.backends.docker.client import Docker
from responder.backends.host.client import Local
from responder.testing.comparison import expect_unchanged
from tests.compose import Compose
from tests.engine import Engine
from tests.parts import free_port
from tests.responder.backends.docker.outside import may_differ, outside
from tests.responder.harness import Rollback

BACKEND = {"image": "plain:2", "stop_signal": "SIGKILL"}
SLEEPS = {"image": "plain:3", "stop_signal": "SIGKILL", "command": ["/bin/busybox", "sleep", "600"]}
SUBNET = [{"subnet": "10.250.7.0/24"}, {"subnet": "fd00:7::/64"}]


@dataclass(frozen=True)
class Case:
    """A project with the service `backend`, and the commands after its rollback. `options`: of every command."""

    backend: Mapping[str, Any] | None = field(default_factory=dict)
    others: Mapping[str, Any] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)
    options: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    before: tuple[tuple[str, dict[str, Any]], ...] = ()
    commands: tuple[str, ...] = ("up -d", "up -d --force-recreate")
    project: str = "shop"
    containers: str = "shop-backend-?"

    def start(self, engine: Engine, directory: Path) -> Compose:
        for path, body in self.before:
            engine.call("POST", path, body)
        for name, text in self.files.items():
            (directory / name).write_text(text)
        own = {} if self.backend is None else {"backend": {**BACKEND, **self.backend}}
        compose = Compose(engine, directory, {**own, **self.others}, **self.more)
        compose(*self.options.split(), "up", "-d", HUSH="hush")
        return compose


def network(**settings: Any) -> dict[str, Any]:
    return {"networks": {"default": settings}}


CASES = {
    "replicas": Case(
        {"deploy": {"replicas": 3}}, commands=("restart", "up -d --scale backend=4", "up -d --scale backend=2")
    ),
    "scale": Case(
        {"scale": 2}, commands=("stop", "start", "up -d --force-recreate", "up -d --scale backend=0", "up -d")
    ),
    "limits": Case({"deploy": {"resources": {"limits": {"cpus": "0.5", "memory": "64M", "pids": 50}}}}),
    "profile": Case({"profiles": ["live"]}, {"other": SLEEPS}, options="--profile live", commands=("up -d", "restart")),
    "project by option": Case(options="-p other", project="other", containers="other-backend-1"),
    "project by .env": Case(
        files={".env": "COMPOSE_PROJECT_NAME=named\n"}, project="named", containers="named-backend-1"
    ),
    "version by .env": Case({"image": "plain:${TAG}"}, files={".env": "TAG=2\n"}),
    "env file": Case({"env_file": ["app.env"]}, files={"app.env": "A=1\n"}),
    "extends": Case(
        {"extends": {"file": "base.yaml", "service": "base"}},
        files={"base.yaml": "services: {base: {image: plain:3, environment: {A: '1'}}}\n"},
    ),
    "include": Case(
        None,
        {"other": SLEEPS},
        more={"include": ["more.yaml"]},
        files={"more.yaml": "services: {backend: {image: plain:2, stop_signal: SIGKILL}}\n"},
    ),
    "static addresses": Case(
        {"networks": {"default": {"ipv4_address": "10.250.7.9", "ipv6_address": "fd00:7::9"}}},
        more=network(enable_ipv6=True, ipam={"config": SUBNET}),
    ),
    "external network": Case(
        {"networks": {"edge": {"aliases": ["api"]}, "default": {}}},
        more={"networks": {"edge": {"external": True}}},
        before=(("/networks/create", {"Name": "edge"}),),
    ),
    "external volume": Case(
        {"volumes": ["kept:/data", "./bound:/bound", "named:/www:ro"]},
        more={"volumes": {"kept": {"external": True}, "named": {"name": "exact"}}},
        before=(("/volumes/create", {"Name": "kept"}),),
        commands=("up -d", "down -v", "up -d"),
    ),
    "host network": Case({"network_mode": "host", "command": ["/bin/busybox", "sleep", "600"]}),
    "no network": Case({"network_mode": "none"}),
    "links": Case({"links": ["data:db"]}, {"data": SLEEPS}, commands=("up -d", "restart")),
    "linked by others": Case(
        others={"front": {**SLEEPS, "links": ["backend:api"]}}, commands=("up -d", "restart backend")
    ),
    "waits for health": Case(
        {"image": "shop:2"},
        {"front": {**SLEEPS, "depends_on": {"backend": {"condition": "service_healthy"}}}},
        commands=("up -d --wait", "up -d --force-recreate"),
    ),
    "health check off": Case({"image": "shop:2", "healthcheck": {"disable": True}}),
    "own health check": Case({"healthcheck": {"test": ["CMD", "/bin/busybox", "true"], "interval": "1s"}}),
    "container name": Case({"container_name": "web"}, commands=("restart", "up -d --force-recreate"), containers="web"),
    "no privileges": Case(
        {"read_only": True, "tmpfs": ["/tmp"], "user": "1000:1000", "cap_drop": ["ALL"]}, commands=("restart", "up -d")
    ),
    "no log": Case({"logging": {"driver": "none"}}),
    "entrypoint": Case({"entrypoint": ["/bin/busybox"], "command": ["httpd", "-f", "-p", "8080", "-h", "/www"]}),
    "no entrypoint": Case({"entrypoint": [], "command": ["/bin/busybox", "httpd", "-f", "-h", "/www"]}),
    "namespaces": Case({"userns_mode": "host", "uts": "host", "cgroup": "private", "runtime": "runc"}),
    "secrets and configs": Case(
        {"secrets": [{"source": "s", "target": "/s", "mode": 0o400}], "configs": [{"source": "c", "target": "/c"}]},
        more={"secrets": {"s": {"environment": "HUSH"}}, "configs": {"c": {"file": "./c.conf"}}},
        files={"c.conf": "listen 8080"},
    ),
    "daily commands": Case(
        {"ports": ["127.0.0.1::8080"]},
        commands=(
            *("ps -a", "logs backend", "exec -T backend /bin/busybox true", "top", "pause", "unpause", "images"),
            *(
                "kill backend",
                "start",
                "rm -sf backend",
                "up -d --no-deps backend",
                "run --rm backend /bin/busybox true",
            ),
        ),
    ),
}


def versions(engine: Engine, case: Case) -> set[str]:
    """What the running containers of the service run."""
    found = set()
    for name, container in engine.containers(case.project).items():
        labels = container["Labels"]
        if labels["com.docker.compose.service"] == "backend" and container["State"] == "running":
            found |= {item for item in engine.inspect(name)["Config"]["Env"] if item.startswith("VERSION=")}
    return found


def rollback(docker: Docker, case: Case) -> Rollback:
    service = {"project": case.project, "service": "backend"}
    strategy = {"strategy": "immediate", "docker": {**service, "min_uptime": "0s"}}
    return Rollback(strategy, {Docker: docker, Local: Local()}, health_checks=[{"containers": service}])


@pytest.mark.parametrize("name", CASES)
async def test_a_rollback_changes_only_the_version(name: str, engine: Engine, docker: Docker, tmp_path: Path) -> None:
    case = CASES[name]
    compose = case.start(engine, tmp_path)
    before = outside(engine)
    ended = await rollback(docker, case).run()
    assert ended.outcome == "succeeded", ended.reason
    known = may_differ(case.containers)
    if name == "daily commands":
        known[f"/containers/{case.containers}/HostConfig/PortBindings/*"] = "the port that the engine chose stays"
    expect_unchanged(before, outside(engine), "after the rollback", known)
    assert versions(engine, case) == {"VERSION=1"}
    for command in case.commands:
        compose(*case.options.split(), *command.split(), HUSH="hush")
        stopped = command in ("stop", "down -v", "kill backend", "pause", "rm -sf backend") or command.endswith("=0")
        assert versions(engine, case) == (set() if stopped else {"VERSION=1"}), command
    compose(*case.options.split(), "down", "-v", HUSH="hush")
    assert engine.containers(case.project) == {}


OTHER = "services: {backend: {environment: {A: '1'}}}\n"


@pytest.mark.parametrize(
    ("options", "files"),
    [
        ("-f compose.yaml -f other.yaml", {"other.yaml": OTHER}),
        ("", {"other.yaml": OTHER, ".env": "COMPOSE_FILE=compose.yaml:other.yaml\n"}),
        ("", {"compose.override.yaml": OTHER}),
        ("", {"compose.override.yml": OTHER}),
        ("-f compose.yaml", {"compose.override.yml": OTHER}),
        ("-f sub.yaml", {"sub.yaml": "name: shop\nservices: {backend: {image: plain:2, stop_signal: SIGKILL}}\n"}),
    ],
    ids=["-f twice", "COMPOSE_FILE", "own override", "own override.yml", "unused override.yml", "other name"],
)
async def test_a_project_that_would_not_keep_the_version_is_reported(
    options: str, files: dict[str, str], engine: Engine, docker: Docker, tmp_path: Path
) -> None:
    """The plan says what the next `docker compose up` does, and it does so; the files of the user stay."""
    case = Case(options=options, files=files)
    compose = case.start(engine, tmp_path)
    before = outside(engine, tmp_path)["files"]
    ended = await rollback(docker, case).run()
    assert ended.outcome == "succeeded", ended.reason
    assert ended.plan
    assert ended.plan.notes[-1].startswith("the next `docker compose up` of shop restores the bad version: ")
    assert outside(engine, tmp_path)["files"] == before
    compose(*options.split(), "up", "-d")
    assert versions(engine, case) == {"VERSION=2"}


async def test_a_service_that_compose_would_restart_is_named(engine: Engine, docker: Docker, tmp_path: Path) -> None:
    depends = {"backend": {"condition": "service_started", "restart": True}}
    case = Case({"ports": [f"127.0.0.1:{free_port()}:8080"]}, {"front": {**SLEEPS, "depends_on": depends}})
    case.start(engine, tmp_path)
    plan = await rollback(docker, case).plan()
    assert plan.notes[0] == "shop-front-1 depends on backend with `restart: true`: restart it afterwards"


async def test_a_build_never_gets_the_name_of_the_good_image(
    engine: Engine, docker: Docker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the tag in the override, `up --build` would build the bad version under it."""
    monkeypatch.setenv("DOCKER_BUILDKIT", "0")
    engine.call("POST", "/images/plain:1/tag", repo="built", tag="1")
    case = Case({"image": "built:2", "build": "."}, files={"Dockerfile": "FROM plain:2\nLABEL a=b\n"})
    compose = case.start(engine, tmp_path)
    good = engine.call("GET", "/images/built:1/json")["Id"]
    ended = await rollback(docker, case).run()
    assert ended.outcome == "succeeded", ended.reason
    assert ended.plan
    assert f"keeps backend at {good}: " in ended.plan.notes[-1]
    assert ended.plan.notes[-1].endswith("; `up --build` fails until then")
    compose("up", "-d")
    assert versions(engine, case) == {"VERSION=1"}
    with pytest.raises(AssertionError, match="ambiguous tag"):
        compose("up", "-d", "--build")
    assert versions(engine, case) == {"VERSION=1"}
    assert engine.call("GET", "/images/built:1/json")["Id"] == good
    (tmp_path / "compose.override.yaml").unlink()
    compose("up", "-d", "--build")
    assert versions(engine, case) == {"VERSION=2"}
    for name in ("built:1", "built:2"):
        engine.call("DELETE", f"/images/{name}", force="true")

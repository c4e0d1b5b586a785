"""A replaced container differs from the previous one only in its image and the consequences of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from responder.backends.docker.client import Docker
from responder.backends.docker.containers import chosen_ports, config_like, endpoints_of
from responder.backends.docker.kept_containers import _is_injected
from responder.backends.host.client import Local
from responder.testing.comparison import expect_unchanged
from tests.compose import Compose
from tests.engine import Engine
from tests.parts import free_port
from tests.responder.backends.docker.outside import may_differ, outside
from tests.responder.harness import Rollback

ROLLBACK = {"strategy": "immediate", "docker": {"project": "shop", "service": "backend"}}
RUNS = [{"containers": {"project": "shop", "service": "backend"}}]


def services(directory: Path) -> dict[str, Any]:
    """One service with every container setting of Compose that this engine supports."""
    bound = directory / "bound"
    bound.mkdir()
    (directory / "secret").write_text("from a file")
    read_only = {"type": "bind", "source": str(bound), "target": "/from-data", "read_only": True}
    return {
        "data": {"image": "plain:3", "stop_signal": "SIGKILL", "volumes": ["/shared", "pool:/pool", read_only]},
        "backend": {
            "image": "shop:2",
            "hostname": "front",
            "domainname": "example.test",
            "mac_address": "02:42:ac:11:65:43",
            "ports": [f"127.0.0.1:{free_port()}:8080"],
            "expose": ["9000"],
            "environment": {"MODE": "live"},
            "labels": {"team": "web", "shop.version": "ours"},
            "volumes": [
                "/data",
                "pool:/pool-again:ro",
                {"type": "bind", "source": str(bound), "target": "/bound", "bind": {"propagation": "private"}},
                {"type": "tmpfs", "target": "/scratch", "tmpfs": {"size": 1_000_000}},
                {"type": "volume", "source": "driven", "target": "/driven", "volume": {"nocopy": True}},
            ],
            "volumes_from": ["data:ro"],
            "tmpfs": ["/more-scratch:size=1m"],
            "networks": {"default": {"aliases": ["api"]}, "back": {"aliases": ["backend-back"]}},
            "links": ["data:database"],
            "extra_hosts": ["elsewhere:192.0.2.7"],
            "dns": ["192.0.2.53"],
            "dns_search": ["example.test"],
            "dns_opt": ["ndots:2"],
            "cap_add": ["SYS_PTRACE"],
            "cap_drop": ["MKNOD"],
            "security_opt": ["no-new-privileges:true"],
            "group_add": ["1234"],
            "user": "0:0",
            "working_dir": "/www",
            "init": True,
            "ipc": "private",
            "pid": "host",
            "shm_size": "32m",
            "sysctls": {"net.core.somaxconn": "511"},
            "ulimits": {"nofile": {"soft": 1024, "hard": 2048}},
            "mem_limit": "64m",
            "cpus": 0.5,
            "cpu_shares": 512,
            "pids_limit": 100,
            "oom_score_adj": 100,
            "restart": "on-failure:3",
            "stop_grace_period": "1s",
            "stop_signal": "SIGKILL",
            "logging": {"driver": "json-file", "options": {"max-size": "1m"}},
            "healthcheck": {"interval": "500ms"},
            "tty": True,
            "stdin_open": True,
            "devices": ["/dev/null:/dev/another-null"],
            "secrets": ["of_file", "of_environment"],
            "configs": [{"source": "inline", "target": "/etc/shop/inline.conf", "mode": 0o440}],
        },
    }


@pytest.mark.parametrize(
    ("to_version", "outcome", "runs"),
    [("1", "succeeded", "1"), ("crashes", "reverted", "2")],
    ids=["after a rollback", "after a revert"],
)
async def test_all_settings_except_the_image_stay(
    to_version: str, outcome: str, runs: str, engine: Engine, docker: Docker, tmp_path: Path
) -> None:
    more: dict[str, Any] = {
        "networks": {"back": {}},
        "volumes": {
            "pool": {},
            "driven": {"driver_opts": {"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}},
        },
        "secrets": {"of_file": {"file": str(tmp_path / "secret")}, "of_environment": {"environment": "TOKEN"}},
        "configs": {"inline": {"content": "listen 8080"}},
    }
    Compose(engine, tmp_path, services(tmp_path), **more)("up", "-d", TOKEN="hush")
    engine.put("shop-backend-1", "/data/x", "precious")
    engine.call("POST", "/networks/create", {"Name": "of-others"})
    others = {"Container": "shop-backend-1", "EndpointConfig": {"Aliases": ["their-backend"]}}
    engine.call("POST", "/networks/of-others/connect", others)
    before = engine.inspect("shop-backend-1")
    rollback = Rollback(ROLLBACK, {Docker: docker, Local: Local()}, to_version=to_version, health_checks=RUNS)
    everything = outside(engine)
    await rollback.plan()
    expect_unchanged(everything, outside(engine), "after planning")
    ended = await rollback.run()
    assert ended.outcome == outcome, ended.reason
    after = engine.inspect("shop-backend-1")
    expect_unchanged(everything, outside(engine), f"after a rollback that {outcome}", may_differ("shop-backend-1"))
    assert after["Name"] == before["Name"]
    assert after["Config"]["Labels"]["shop.version"] == "ours"
    assert after["Config"]["Healthcheck"] == before["Config"]["Healthcheck"]
    assert {variable for variable in after["Config"]["Env"] if variable.startswith("VERSION=")} == {f"VERSION={runs}"}
    assert engine.get("shop-backend-1", "/data/x") == "precious"
    assert engine.get("shop-backend-1", "/run/secrets/of_file") == "from a file"
    assert engine.get("shop-backend-1", "/run/secrets/of_environment") == "hush"
    assert engine.get("shop-backend-1", "/etc/shop/inline.conf") == "listen 8080"


@pytest.mark.parametrize("again", [False, True], ids=["as it was", "recreated since"])
async def test_volumes_from_a_removed_container_stay(
    again: bool, engine: Engine, docker: Docker, tmp_path: Path
) -> None:
    """`volumes_from` names a container by its ID: once that is recreated, only the volumes remain."""
    services = {
        "data": {"image": "plain:3", "stop_signal": "SIGKILL", "volumes": ["/shared"]},
        "backend": {"image": "plain:2", "stop_signal": "SIGKILL", "volumes_from": ["data"]},
    }
    Compose(engine, tmp_path, services)("up", "-d")
    engine.put("shop-backend-1", "/shared/x", "precious")
    if again:
        engine.call("DELETE", "/containers/shop-data-1", force="true")
    ended = await Rollback(ROLLBACK, {Docker: docker, Local: Local()}, health_checks=RUNS).run()
    assert ended.outcome == "succeeded", ended.reason
    assert engine.get("shop-backend-1", "/shared/x") == "precious"


async def test_anonymous_volumes_stay(engine: Engine, docker: Docker) -> None:
    """As created by `docker run -v /data` and other tools."""
    engine.compose("backend", "plain:2", port=free_port(), binds=("/bare",))
    engine.put("shop-backend-1", "/bare/x", "precious")
    engine.put("shop-backend-1", "/scratch/x", "precious too")
    ended = await Rollback(ROLLBACK, {Docker: docker}, health_checks=RUNS).run()
    assert ended.outcome == "succeeded", ended.reason
    assert engine.get("shop-backend-1", "/bare/x") == "precious"
    assert engine.get("shop-backend-1", "/scratch/x") == "precious too"


async def test_a_container_with_auto_remove_is_refused(engine: Engine, docker: Docker) -> None:
    engine.compose("backend", "plain:2", port=free_port(), auto_remove=True)
    ended = await Rollback(ROLLBACK, {Docker: docker}, health_checks=RUNS).run()
    assert (ended.outcome, "runs with --rm" in ended.reason) == ("failed", True)
    assert engine.containers()["shop-backend-1"]["State"] == "running"


@pytest.mark.parametrize(("modified", "injected"), [("10:00:00Z", True), ("10:00:02Z", True), ("10:00:03Z", False)])
def test_a_file_that_compose_copied_just_before_the_start(modified: str, injected: bool) -> None:
    """Compose rounds its time to the nearest second, which may be after the start."""
    container = {"Created": "2026-11-30T10:00:00.4Z", "State": {"StartedAt": "2026-11-30T10:00:01.7Z"}}
    stat = {"mode": 0o440, "size": 11, "mtime": f"2026-11-30T{modified}"}
    assert _is_injected(container, stat) is injected


async def test_a_port_that_the_engine_chose_stays(engine: Engine, docker: Docker, tmp_path: Path) -> None:
    ports = ["127.0.0.1::8080", f"127.0.0.1:{free_port()}:9000"]
    services = {"backend": {"image": "plain:2", "stop_signal": "SIGKILL", "ports": ports}}
    Compose(engine, tmp_path, services)("up", "-d")
    before = engine.inspect("shop-backend-1")["NetworkSettings"]["Ports"]
    chosen = before["8080/tcp"][0]["HostPort"]
    checks = [{"http": f"http://127.0.0.1:{chosen}/", "fields": {"version": "1"}}]
    ended = await Rollback(ROLLBACK, {Docker: docker, Local: Local()}, health_checks=checks).run()
    assert ended.outcome == "succeeded", ended.reason
    assert engine.inspect("shop-backend-1")["NetworkSettings"]["Ports"] == before
    assert ended.plan
    assert ended.plan.notes[0] == f"shop-backend-1 keeps host port {chosen}, which the engine chose"


@pytest.mark.parametrize(
    ("bindings", "published", "chosen"),
    [
        ([{"HostIp": "", "HostPort": "80"}], [{"HostIp": "0.0.0.0", "HostPort": "80"}], None),
        (
            [{"HostIp": "", "HostPort": "0"}],
            [{"HostIp": "0.0.0.0", "HostPort": "32768"}, {"HostIp": "::", "HostPort": "32768"}],
            [{"HostIp": "", "HostPort": "32768"}],
        ),
        (
            [{"HostIp": "127.0.0.1", "HostPort": "8000-8010"}, {"HostIp": "", "HostPort": "80"}],
            [{"HostIp": "0.0.0.0", "HostPort": "80"}, {"HostIp": "127.0.0.1", "HostPort": "8003"}],
            [{"HostIp": "127.0.0.1", "HostPort": "8003"}, {"HostIp": "", "HostPort": "80"}],
        ),
        ([{"HostIp": "", "HostPort": ""}], [], None),
    ],
    ids=["fixed", "two families", "range", "stopped"],
)
def test_ports_that_the_engine_chose_are_recognized(bindings: Any, published: Any, chosen: Any) -> None:
    container = {
        "HostConfig": {"PortBindings": {"8080/tcp": bindings}},
        "NetworkSettings": {"Ports": {"8080/tcp": published}},
    }
    assert chosen_ports(container) == ({"8080/tcp": chosen} if chosen else {})


@pytest.mark.parametrize(
    ("address", "mac", "kept"),
    [("10.0.0.2", "02:42:0a:00:00:02", ""), ("10.0.0.2", "02:42:ac:11:65:43", "02:42:ac:11:65:43"), ("", "", "")],
)
def test_a_fixed_mac_address_of_a_network_stays(address: str, mac: str, kept: str) -> None:
    """As `networks: {default: {mac_address: …}}` sets it with newer engines than that of the tests."""
    networks = {"shop_default": {"IPAddress": address, "MacAddress": mac}}
    container = {
        "Id": "0" * 64,
        "HostConfig": {"NetworkMode": "shop_default"},
        "NetworkSettings": {"Networks": networks},
    }
    assert endpoints_of(container)["shop_default"]["MacAddress"] == kept


@pytest.mark.parametrize(
    ("variables", "own"),
    [
        (["PATH=/bin", "VERSION=2"], []),
        (["VERSION=2", "PATH=/bin"], ["VERSION=2"]),
        (["MODE=live", "VERSION=3", "PATH=/bin"], ["MODE=live", "VERSION=3"]),
        (["VERSION=2", "MODE=live", "PATH=/bin"], ["VERSION=2", "MODE=live"]),
        (["PATH=/bin", "OTHER=1", "VERSION=2", "LATER=1"], ["OTHER=1", "LATER=1"]),
    ],
    ids=["none", "equal to the image", "other value", "in front", "another engine"],
)
def test_variables_set_to_the_value_of_the_image_stay(variables: list[str], own: list[str]) -> None:
    container: dict[str, Any] = {"Id": "0" * 64, "Config": {"Env": variables}, "HostConfig": {}}
    image = {"Config": {"Env": ["PATH=/bin", "VERSION=2"]}}
    assert config_like(container, image, "shop:1", networks={})["Env"] == own


async def test_a_variable_set_to_the_value_of_the_image_stays(engine: Engine, docker: Docker, tmp_path: Path) -> None:
    variables = {"VERSION": "2", "MODE": "live"}
    services = {"backend": {"image": "plain:2", "stop_signal": "SIGKILL", "environment": variables}}
    Compose(engine, tmp_path, services)("up", "-d")
    ended = await Rollback(ROLLBACK, {Docker: docker, Local: Local()}, health_checks=RUNS).run()
    assert ended.outcome == "succeeded", ended.reason
    assert {"VERSION=2", "MODE=live"} <= set(engine.inspect("shop-backend-1")["Config"]["Env"])

"""A replaced container differs from the previous one only in its image and the consequences of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from responder.backends.docker.client import Docker
from responder.backends.docker.containers import chosen_ports, endpoints_of
from responder.backends.docker.kept_containers import _is_injected
from responder.backends.host.client import Local
from tests.compose import Compose
from tests.engine import Engine
from tests.parts import free_port
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


MAY_DIFFER = {
    r"(Id|Created|Name)": "identity of the container; its name is compared by the test",
    r"(Image|Config/Image|Path|Args/.*|Config/Healthcheck/.*)": "the version; the image has its own defaults",
    r"Config/Env/(VERSION|CARTS)=.*": "of the image",
    r"Config/Labels/(shop\.only-.|shop\.version|com\.docker\.compose\.image)": "of the image",
    r"Config/Labels/io\.rollback-responder\..*": "of the responder, so that it can revert after a crash",
    r"State/.*|RestartCount": "the run: a new container has not been restarted",
    r"(ResolvConf|Hostname|Hosts|Log)Path|GraphDriver/.*": "files of the engine, below the ID",
    r"NetworkSettings/(SandboxID|SandboxKey)|NetworkSettings/Networks/[^/]+/EndpointID": "identity of the run",
    r"NetworkSettings/(Networks/[^/]+/)?(IPAddress|MacAddress)": "the engine assigns addresses that are not fixed",
    r"NetworkSettings/Networks/[^/]+/Aliases/[0-9a-f]{12}": "the engine adds the short ID",
    r"HostConfig/(Mounts|Binds)/.*": "an unnamed volume is named now: the mounts are compared",
}
"""What may differ in `docker inspect` after a rollback, and why. Everything else must be equal."""


def flat(value: Any, path: str = "") -> set[tuple[str, str]]:
    """Every leaf with its path. The elements of a list are leaves of a set, named by what identifies them."""
    if isinstance(value, dict) and value:
        return {leaf for key, inner in value.items() for leaf in flat(inner, f"{path}/{key}")}
    if isinstance(value, list) and value:
        names = [
            item.get("Destination", item.get("Target", n)) if isinstance(item, dict) else item
            for n, item in enumerate(value)
        ]
        return {leaf for name, item in zip(names, value, strict=True) for leaf in flat(item, f"{path}/{name}")}
    return {(path.lstrip("/"), "" if value in ({}, [], None) else str(value))}


def differences(before: dict[str, Any], after: dict[str, Any]) -> set[tuple[str, str]]:
    """What is different in `docker inspect` and must not be."""
    changed = flat(before) ^ flat(after)
    return {(path, value) for path, value in changed if not any(re.fullmatch(known, path) for known in MAY_DIFFER)}


def everything_of(engine: Engine) -> dict[str, Any]:
    """All that the engine has. Health checks go on meanwhile."""
    names = [container["Names"][0].lstrip("/") for container in engine.call("GET", "/containers/json", all="true")]
    found = {name: {leaf for leaf in flat(engine.inspect(name)) if "State/Health" not in leaf[0]} for name in names}
    networks = {network["Id"]: network["Name"] for network in engine.call("GET", "/networks")}
    volumes = sorted(volume["Name"] for volume in engine.call("GET", "/volumes")["Volumes"] or ())
    images = sorted(image["Id"] for image in engine.call("GET", "/images/json", all="true"))
    return {**found, "networks": networks, "volumes": volumes, "images": images}


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
    everything = everything_of(engine)
    await rollback.plan()
    assert everything_of(engine) == everything
    ended = await rollback.run()
    assert ended.outcome == outcome, ended.reason
    after = engine.inspect("shop-backend-1")
    assert differences(before, after) == set()
    assert everything_of(engine)["shop-data-1"] == everything["shop-data-1"]
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

"""A replaced container differs from the previous one only in its image and the consequences of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from responder.backends.docker.client import Docker
from responder.backends.docker.kept_containers import _is_injected
from responder.backends.host.client import Local
from tests.compose import Compose
from tests.engine import Engine
from tests.parts import free_port
from tests.responder.harness import Rollback

OF_THE_IMAGE = ("VERSION=", "CARTS=")
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


def compared(container: dict[str, Any]) -> dict[str, Any]:
    """The settings that must stay: everything that Compose or the user set, and the mounts."""
    config, host = dict(container["Config"]), dict(container["HostConfig"])
    for key in ("Image", "Healthcheck"):
        config.pop(key)
    config["Env"] = sorted(variable for variable in config["Env"] if not variable.startswith(OF_THE_IMAGE))
    ours = ("io.rollback-responder.", "shop.only-", "com.docker.compose.image")
    config["Labels"] = {key: value for key, value in config["Labels"].items() if not key.startswith(ours)}
    # An anonymous volume has no source in the settings: compare the mounts instead.
    host["Mounts"] = sorted((mount["Type"], mount["Target"]) for mount in host["Mounts"])
    mounts = {
        mount["Destination"]: (
            mount["Type"],
            mount.get("Name") or mount.get("Source"),
            mount["RW"],
            mount["Propagation"],
        )
        for mount in container["Mounts"]
    }
    networks = {
        name: {
            "aliases": sorted(alias for alias in endpoint["Aliases"] if alias != container["Id"][:12]),
            "settings": [endpoint[key] for key in ("IPAMConfig", "Links", "DriverOpts", "MacAddress")],
        }
        for name, endpoint in container["NetworkSettings"]["Networks"].items()
    }
    interval = container["Config"]["Healthcheck"]["Interval"]
    return {"config": config, "host": host, "mounts": mounts, "networks": networks, "interval": interval}


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
    before = engine.inspect("shop-backend-1")
    rollback = Rollback(ROLLBACK, {Docker: docker, Local: Local()}, to_version=to_version, health_checks=RUNS)
    ended = await rollback.run()
    assert ended.outcome == outcome, ended.reason
    after = engine.inspect("shop-backend-1")
    assert compared(after) == compared(before)
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

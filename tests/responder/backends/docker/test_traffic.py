"""Not one request fails while containers are replaced behind a real proxy."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from responder.backends.docker.client import Docker
from responder.backends.host.client import Local
from responder.backends.host.proxy import HaproxyServers, NginxInclude
from responder.errors import Drift, StepFailed
from responder.rollback.plan import Change
from tests.compose import Compose
from tests.contents.files import tree
from tests.engine import Engine, LoadGenerator, haproxy, nginx
from tests.parts import free_port
from tests.responder.backends.resource_law import keeps_the_laws
from tests.responder.harness import Rollback


def healthy(url: str) -> list[dict[str, Any]]:
    return [{"http": f"{url}/", "fields": {"version": "1"}}]


def servers(*ports: int) -> str:
    return " ".join(f"server 127.0.0.1:{port} max_fails=0;" for port in ports)


async def test_a_rolling_rollback_behind_nginx(engine: Engine, docker: Docker, tmp_path: Path) -> None:
    ports = [free_port() for _ in range(3)]
    for number, port in enumerate(ports, 1):
        engine.compose("backend", "shop:2", number=number, port=port)
    async with nginx(tmp_path, servers(*ports)) as proxy:
        rollback = {
            "strategy": "rolling",
            "docker": {"project": "shop", "service": "backend"},
            "batch_size": 2,
            "health_check_interval": "200ms",
        }
        async with LoadGenerator(proxy.url) as hammer:
            ended = await Rollback(rollback, {Docker: docker}, health_checks=healthy(proxy.url)).run()
        assert ended.outcome == "succeeded", ended.reason
        assert hammer.failed == []
        assert min(hammer.versions["2"], hammer.versions["1"]) > 10
    images = {name: c["Image"] for name, c in engine.containers().items() if c["State"] == "running"}
    assert images == {f"shop-backend-{n}": "shop:1" for n in (1, 2, 3)}


async def test_a_rolling_rollback_stops_at_the_first_sick_batch(engine: Engine, docker: Docker, tmp_path: Path) -> None:
    ports = [free_port() for _ in range(3)]
    for number, port in enumerate(ports, 1):
        engine.compose("backend", "shop:2", number=number, port=port)
    before = {name: c["Image"] for name, c in engine.containers().items()}
    async with nginx(tmp_path, servers(*ports)) as proxy:
        rollback = {"strategy": "rolling", "docker": {"project": "shop", "service": "backend"}}
        async with LoadGenerator(proxy.url) as hammer:
            ended = await Rollback(rollback, {Docker: docker}, to_version="sick").run()
        assert ended.outcome == "reverted"
        assert "shop-backend-1 is unhealthy" in ended.reason
        assert hammer.failed == []
    assert {name: c["Image"] for name, c in engine.containers().items() if c["State"] == "running"} == before


async def blue_green(
    engine: Engine, docker: Docker, url: str, pointer: dict[str, Any], ports: dict[str, int], *, to_version: str = "1"
) -> tuple[Any, LoadGenerator]:
    colors = {
        color: {
            "docker": {"project": "shop", "service": color},
            "ready": [{"http": f"http://127.0.0.1:{port}/health", "fields": {"version": "1"}}],
        }
        for color, port in ports.items()
    }
    rollback = {"strategy": "blue_green", "pointer": pointer, "colors": colors, "ready_for": "200ms"}
    rollback["ready_within"] = "10s"
    async with LoadGenerator(url) as hammer:
        harness = Rollback(rollback, {Docker: docker}, health_checks=healthy(url), to_version=to_version)
        ended = await harness.run()
    return ended, hammer


@pytest.fixture
def ports(engine: Engine) -> dict[str, int]:
    """Green serves the bad version; blue has an older version than the good one."""
    ports = {"blue": free_port(), "green": free_port()}
    engine.compose("blue", "shop:3", port=ports["blue"])
    engine.compose("green", "shop:2", port=ports["green"])
    return ports


async def test_blue_green_behind_nginx(engine: Engine, docker: Docker, tmp_path: Path, ports: dict[str, int]) -> None:
    async with nginx(tmp_path, servers(ports["green"])) as proxy:
        pointer = {
            "nginx": str(proxy.include),
            "servers": {color: servers(port) for color, port in ports.items()},
            "test": list(proxy.test),
            "restart": list(proxy.reload),
        }
        ended, hammer = await blue_green(engine, docker, proxy.url, pointer, ports)
        assert ended.outcome == "succeeded", ended.reason
        assert hammer.failed == []
        assert set(hammer.versions) == {"1", "2"}  # never the version of the idle color
        assert engine.inspect("shop-green-1")["State"]["Running"]  # the failed color, for study


async def test_blue_green_behind_haproxy(engine: Engine, docker: Docker, tmp_path: Path, ports: dict[str, int]) -> None:
    async with haproxy(tmp_path, ports, {"green"}) as proxy:
        pointer = {"haproxy": str(proxy.socket), "backend": "app", "servers": {"blue": ["blue"], "green": ["green"]}}
        ended, hammer = await blue_green(engine, docker, proxy.url, pointer, ports)
        assert ended.outcome == "succeeded", ended.reason
        assert hammer.failed == []
        assert set(hammer.versions) == {"1", "2"}
        changed = [step.resource for step in ended.plan.steps if isinstance(step, Change)]
        (switched,) = [resource for resource in changed if isinstance(resource, HaproxyServers)]
        assert switched.in_maintenance == ("blue",)  # a revert puts it back into it


async def test_an_unhealthy_idle_color_gets_no_traffic(
    engine: Engine, docker: Docker, tmp_path: Path, ports: dict[str, int]
) -> None:
    idle = engine.inspect("shop-blue-1")["Image"]
    async with haproxy(tmp_path, ports, {"green"}) as proxy:
        pointer = {"haproxy": str(proxy.socket), "backend": "app", "servers": {"blue": ["blue"], "green": ["green"]}}
        ended, hammer = await blue_green(engine, docker, proxy.url, pointer, ports, to_version="sick")
        assert ended.outcome == "reverted"
        assert hammer.failed == []
        assert set(hammer.versions) == {"2"}
    assert engine.inspect("shop-blue-1")["Image"] == idle


@pytest.mark.parametrize(("to_version", "outcome"), [("1", "succeeded"), ("crashes", "reverted")])
async def test_the_containers_of_an_idle_color_stop_at_the_same_time(
    to_version: str, outcome: str, engine: Engine, docker: Docker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They ignore SIGTERM, so each takes its whole grace period. A stopped one stays stopped after a revert."""
    stop, stopping, most = docker.stop, set[str](), set[str]()

    async def recorded(name: str, *, within: float) -> None:
        stopping.add(name)
        most.update(stopping if len(stopping) > len(most) else ())
        await stop(name, within=within)
        stopping.discard(name)

    monkeypatch.setattr(docker, "stop", recorded)
    common = {"stop_signal": "SIGTERM", "stop_grace_period": "2s"}
    colors = {"blue": {**common, "image": "plain:3", "scale": 4}, "green": {**common, "image": "plain:2"}}
    Compose(engine, tmp_path, colors)("up", "-d")
    engine.call("POST", "/containers/shop-blue-4/kill", signal="SIGKILL")
    (tmp_path / "live").write_text("green")
    rollback = {
        "strategy": "blue_green",
        "pointer": {"file": str(tmp_path / "live")},
        "colors": {c: {"docker": {"project": "shop", "service": c, "min_uptime": "0s"}} for c in colors},
        "ready_for": "0s",
    }
    checks = [{"containers": {"project": "shop", "service": "blue"}}]
    harness = Rollback(rollback, {Docker: docker, Local: Local()}, to_version=to_version, health_checks=checks)
    ended = await harness.run()
    assert ended.outcome == outcome, ended.reason
    assert len(most) == 3
    version = "plain:1" if outcome == "succeeded" else "plain:3"
    found = {name: c for name, c in engine.containers().items() if "blue" in name}
    assert {engine.inspect(name)["Config"]["Image"] for name in found} == {version}
    running = {name for name, container in found.items() if container["State"] == "running"}
    assert running >= {f"shop-blue-{n}" for n in (1, 2, 3)}


def include(proxy: Any, **colors: str) -> NginxInclude:
    return NginxInclude(nginx=proxy.include, servers=colors, test=proxy.test, restart=proxy.reload)


async def test_the_laws_of_nginx(tmp_path: Path) -> None:
    async with nginx_that_answers(tmp_path) as (proxy, port):
        colors = {name: f"{servers(port)} # {name}" for name in ("blue", "green", "red")}
        resource = include(proxy, **colors)
        proxy.include.write_text(colors["green"] + "\n")

        def state() -> dict[str, Any]:
            files = {name: about for name, about in tree(tmp_path).items() if name not in RUNTIME}
            return {"files": files, "used": subprocess.run([*proxy.argv, "-T"], capture_output=True, text=True).stdout}

        more: dict[str, Any] = {"version": ["/files/servers.conf/content", "/used"], "state": state}
        more["may_differ"] = {"/files/servers.conf/changed": "it is written anew"}
        await keeps_the_laws(resource, Local(), expected="green", to="blue", stranger="red", **more)


RUNTIME = ("error.log", "nginx.log")
"""Files that nginx itself writes."""


async def test_a_rejected_nginx_configuration_is_restored(tmp_path: Path) -> None:
    async with nginx_that_answers(tmp_path) as (proxy, _):
        before = proxy.include.read_text()
        resource = include(proxy, green=before, blue="server nonsense nonsense;")
        with pytest.raises(StepFailed, match="nginx rejects the configuration for blue; the previous one was restored"):
            await resource.write(Local(), "blue", expected="green")
        assert proxy.include.read_text() == before
        assert await resource.read(Local()) == "green"


async def test_unknown_nginx_servers_are_drift(tmp_path: Path) -> None:
    async with nginx_that_answers(tmp_path) as (proxy, _):
        resource = include(proxy, green=servers(1), blue=servers(2))
        with pytest.raises(Drift):
            await resource.write(Local(), "blue", expected="green")
        with pytest.raises(StepFailed, match="has no color pink"):
            await resource.write(Local(), "pink", expected=await resource.read(Local()))


def nginx_that_answers(directory: Path) -> Any:
    import contextlib

    from aiohttp import web

    @contextlib.asynccontextmanager
    async def up() -> Any:
        app = web.Application()

        async def answer(request: web.Request) -> web.Response:
            return web.json_response({"version": "1"})

        app.router.add_get("/", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        port = free_port()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        try:
            async with nginx(directory, servers(port)) as proxy:
                yield proxy, port
        finally:
            await runner.cleanup()

    return up()


async def test_the_laws_of_haproxy(engine: Engine, ports: dict[str, int], tmp_path: Path) -> None:
    async with haproxy(tmp_path, {**ports, "red": 1}, {"green"}) as proxy:
        resource = HaproxyServers(
            haproxy=proxy.socket, backend="app", servers={"blue": ("blue",), "green": ("green",), "red": ("red",)}
        )
        resource = await resource.as_now(Local())
        more: dict[str, Any] = {"state": lambda: servers_of(proxy), "version": ["/blue/*_state", "/green/*_state"]}
        await keeps_the_laws(resource, Local(), expected="green", to="blue", stranger="red", **more)


async def servers_of(proxy: Any) -> dict[str, Any]:
    """What HAProxy shows of every server, by name, and its configuration file. No clocks: they go on meanwhile."""
    text = await Local().converse(proxy.socket, "show servers state", within=5)
    header, *lines = (line.split() for line in text.splitlines() if line.strip() and line != "1")
    found = {line[3]: dict(zip(header[1:], line, strict=False)) for line in lines}
    for server in found.values():
        del server["srv_time_since_last_change"]
    return {**found, "configuration": proxy.config.read_text()}


async def test_an_interrupted_switch_is_completed(engine: Engine, ports: dict[str, int], tmp_path: Path) -> None:
    async with haproxy(tmp_path, ports, {"green"}) as proxy:
        resource = HaproxyServers(haproxy=proxy.socket, backend="app", servers={"blue": ("blue",), "green": ("green",)})
        await Local().converse(proxy.socket, "set server app/blue state ready", within=5)
        assert await resource.read(Local()) == "blue+green"
        assert not await resource.converged(Local(), "blue")
        await resource.write(Local(), "blue", expected="green")
        assert await resource.converged(Local(), "blue")


BAD: list[tuple[Callable[[Any], dict[str, Any]], str]] = [
    (
        lambda p: {"haproxy": p.socket, "backend": "other", "servers": {"blue": ["blue"], "green": ["green"]}},
        "lack blue, green",
    ),
    (lambda p: {"haproxy": p.socket, "backend": "app", "servers": {"blue": ["b"], "green": ["green"]}}, "lack b"),
]


@pytest.mark.parametrize(("settings_for", "why"), BAD)
async def test_missing_haproxy_servers_are_reported(
    settings_for: Any, why: str, engine: Engine, tmp_path: Path
) -> None:
    port = free_port()
    engine.compose("green", "shop:2", port=port)
    async with haproxy(tmp_path, {"green": port}, {"green"}) as proxy:
        with pytest.raises(StepFailed, match=why):
            await HaproxyServers.model_validate(settings_for(proxy)).read(Local())

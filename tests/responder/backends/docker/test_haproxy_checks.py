"""HAProxy's own health checks: the old color keeps the traffic until HAProxy finds the new servers up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from responder.backends.docker.client import Docker
from responder.backends.host.client import Local
from responder.backends.host.proxy import HaproxyServers
from responder.errors import StepFailed
from tests.engine import Engine, haproxy
from tests.parts import free_port
from tests.responder.backends.docker.test_traffic import blue_green

COLORS = ("blue", "green")


@pytest.fixture
def ports(engine: Engine) -> dict[str, int]:
    """Green serves the bad version; blue has an older version than the good one."""
    ports = {color: free_port() for color in COLORS}
    for color, image in (("blue", "shop:3"), ("green", "shop:2")):
        engine.compose(color, image, port=ports[color])
    return ports


async def state(proxy: Any, server: str) -> list[str]:
    """HAProxy's operational and administrative state of a server."""
    shown = await Local().converse(proxy.socket, "show servers state app", within=5)
    (line,) = [line.split() for line in shown.splitlines() if f" {server} " in line]
    return line[5:7]


@pytest.mark.parametrize("before", ["drain", "maint"])
async def test_no_request_is_lost_while_haproxy_finds_the_new_server_down(
    before: str, engine: Engine, docker: Docker, tmp_path: Path, ports: dict[str, int]
) -> None:
    """If an earlier switch drained the idle color, HAProxy still checks it, and sees its container end."""
    checks = dict.fromkeys(COLORS, "check inter 2s")
    async with haproxy(tmp_path, ports, {*COLORS}, checks) as proxy:
        await Local().converse(proxy.socket, f"set server app/blue state {before}", within=5)
        pointer = {"haproxy": str(proxy.socket), "backend": "app", "servers": {color: [color] for color in COLORS}}
        ended, hammer = await blue_green(engine, docker, proxy.url, pointer, ports)
        assert ended.outcome == "succeeded", ended.reason
        assert hammer.failed == []
        assert set(hammer.versions) == {"1", "2"}


@pytest.mark.parametrize(("before", "administrative"), [("drain", "8"), ("maint", "1")])
async def test_traffic_stays_while_haproxy_finds_the_new_servers_down(
    before: str, administrative: str, engine: Engine, tmp_path: Path, ports: dict[str, int]
) -> None:
    checks = {"blue": "check inter 1s fall 1 port 1", "green": "check inter 1s"}
    async with haproxy(tmp_path, ports, {*COLORS}, checks) as proxy:
        local = Local()
        await local.converse(proxy.socket, f"set server app/blue state {before}", within=5)
        resource = HaproxyServers(
            haproxy=proxy.socket, backend="app", servers={"blue": ("blue",), "green": ("green",)}, up_within=3.0
        )
        with pytest.raises(StepFailed, match="HAProxy still finds blue down after 3 s, so the traffic stays"):
            await resource.write(local, "blue", expected="green")
        assert await resource.read(local) == "green"
        assert await state(proxy, "blue") == ["0", administrative]


async def test_nothing_waits_if_no_other_server_is_up(engine: Engine, tmp_path: Path, ports: dict[str, int]) -> None:
    checks = dict.fromkeys(COLORS, "check inter 1s fall 1 port 1")
    async with haproxy(tmp_path, {**ports, "other": 1}, {*COLORS}, checks) as proxy:
        local = Local()
        resource = HaproxyServers(
            haproxy=proxy.socket, backend="app", servers={c: (c,) for c in COLORS}, up_within=600.0
        )
        await local.converse(proxy.socket, "set server app/blue state drain", within=5)
        while (await state(proxy, "green"))[0] != "0":
            pass
        await resource.write(local, "blue", expected="green")
        assert await resource.converged(local, "blue")

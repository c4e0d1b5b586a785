"""nginx in a container of its own: `check --live` finds whatever would make the switch fail or have no effect."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from responder.backends.docker.client import Docker
from responder.backends.host import nginx_access
from responder.backends.host.client import Local
from responder.backends.host.proxy import NginxInclude
from responder.backends.host.release import PointerFile
from tests.compose import Compose
from tests.engine import Engine
from tests.parts import READY_WITHIN, free_port, need, program
from tests.responder.harness import Rollback
from tests.stack.layers import Layer

SERVERS = {"blue": "server blue:8080;", "green": "server green:8080;"}
NGINX_CONF = """daemon off; events {{ worker_connections 64; }}
http {{ access_log off; upstream backend {{ include {include}; }}
server {{ listen 80; location / {{ proxy_pass http://backend; proxy_connect_timeout 1s; }} }} }}
"""


@pytest.fixture(scope="module")
def nginx_image(whole_engine: Engine) -> Iterator[str]:
    """The nginx of this host with its libraries, and busybox."""
    need("nginx")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        layer, nginx = Layer(archive), Path(str(program("nginx"))).resolve()
        layer.file(nginx, "usr/sbin/nginx")
        layer.file(Path(str(program("busybox"))).resolve(), "bin/busybox")
        layer.link("bin/cat", "busybox")
        layer.text("etc/passwd", "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")
        layer.text("etc/group", "root:x:0:\nnogroup:x:65534:\n")
        for directory in ("var/log/nginx", "var/lib/nginx", "run"):
            layer.directory(directory)
        layer.libraries([nginx])
    whole_engine.call("POST", "/images/create", packed.getvalue(), fromSrc="-", repo="proxy", tag="1")
    yield "proxy:1"
    whole_engine.call("DELETE", "/images/proxy:1", force="true")


class Proxied:
    """Two colors and nginx in front of them, all made by the real Compose; green is live and bad."""

    def __init__(self, engine: Engine, directory: Path, image: str, *, alone: bool = False) -> None:
        self.live, self.port = directory / "live", free_port()
        self.live.mkdir()
        self.include = self.live / "backend.servers"
        self.include.write_text(SERVERS["green"] + "\n")
        mounted = "/etc/nginx/backend.servers" if alone else "/etc/nginx/live/backend.servers"
        (directory / "nginx.conf").write_text(NGINX_CONF.format(include=mounted))
        mount = f"{self.include}:{mounted}" if alone else f"{self.live}:/etc/nginx/live:ro"
        color = {"stop_signal": "SIGKILL"}
        proxy = {
            "image": image,
            "command": ["/usr/sbin/nginx", "-e", "/dev/stderr"],
            "stop_signal": "SIGKILL",
            "ports": [f"127.0.0.1:{self.port}:80"],
            "volumes": [f"{directory}/nginx.conf:/etc/nginx/nginx.conf:ro", mount],
            "depends_on": ["blue", "green"],
        }
        services = {"blue": {**color, "image": "plain:3"}, "green": {**color, "image": "plain:2"}, "proxy": proxy}
        self.compose = Compose(engine, directory, services)
        self.compose("up", "-d")
        self.docker = ("docker", "-H", engine.url)
        pid = engine.call("GET", "/containers/shop-proxy-1/json")["State"]["Pid"]
        self.master = Path(f"/proc/{pid}")
        end = time.monotonic() + READY_WITHIN
        while not nginx_access._title(self.master):  # the Engine answers before nginx has read its configuration
            assert time.monotonic() < end, "nginx did not start"
            time.sleep(0.05)

    def inside(self, *words: str, container: str = "shop-proxy-1") -> tuple[str, ...]:
        return (*self.docker, "exec", container, *words)

    def resource(self, **more: Any) -> NginxInclude:
        test, restart = self.inside("nginx", "-t"), self.inside("nginx", "-s", "reload")
        return NginxInclude.model_validate(
            {"nginx": self.include, "servers": SERVERS, "test": test, "restart": restart, **more}
        )


async def found(resource: Any) -> list[str]:
    return [str(problem) for problem in await resource.check_access(Local())]


async def test_traffic_is_switched_in_a_container(
    engine: Engine, docker: Docker, nginx_image: str, tmp_path: Path
) -> None:
    proxied = Proxied(engine, tmp_path, nginx_image)
    pointer = proxied.resource()
    assert await found(pointer) == []
    color = {"project": "shop", "min_uptime": "0s"}
    rollback = {
        "strategy": "blue_green",
        "pointer": pointer.model_dump(mode="json", exclude={"resource"}),
        "colors": {name: {"docker": {**color, "service": name}} for name in SERVERS},
        "ready_for": "0s",
    }
    checks = [{"http": f"http://127.0.0.1:{proxied.port}/", "fields": {"version": "1"}}]
    ended = await Rollback(rollback, {Docker: docker, Local: Local()}, health_checks=checks).run()
    assert ended.outcome == "succeeded", ended.reason
    assert proxied.include.read_text().strip() == SERVERS["blue"]


async def test_a_file_that_is_mounted_alone_is_reported(engine: Engine, nginx_image: str, tmp_path: Path) -> None:
    """The container keeps the old file when another one replaces it on the host."""
    proxied = Proxied(engine, tmp_path, nginx_image, alone=True)
    (problem,) = await found(proxied.resource())
    assert "is mounted alone as /etc/nginx/backend.servers" in problem
    await Local().write_text(proxied.include, SERVERS["blue"])
    (problem,) = await found(proxied.resource())
    assert "nginx has other content under that name" in problem


async def test_wrong_containers_are_reported(engine: Engine, nginx_image: str, tmp_path: Path) -> None:
    proxied = Proxied(engine, tmp_path, nginx_image)
    reload = ("nginx", "-s", "reload")
    other = Proxied.inside(proxied, *reload, container="shop-blue-1")
    (problem,) = await found(proxied.resource(restart=other))
    assert "reloads another nginx than" in problem
    for restart, expected in (
        (proxied.inside(*reload, container="nosuch"), "container nosuch: "),
        ((*proxied.docker, "kill", "-s", "HUP", "nosuch"), "container nosuch: "),
        ((*proxied.docker, "restart", "-t", "5", "nosuch"), "container nosuch: "),
        (("docker", "-H", "unix:///nowhere.sock", "restart", "shop-proxy-1"), "Cannot connect to the Docker daemon"),
    ):
        (problem,) = await found(proxied.resource(restart=restart))
        assert expected in problem
    for restart in ((*proxied.docker, "kill", "--signal", "HUP", "shop-proxy-1"), ("true",)):
        assert await found(proxied.resource(restart=restart)) == []
    (tmp_path / "color").write_text("green")
    engine.call("POST", "/containers/shop-blue-1/stop")
    pointer = PointerFile(file=tmp_path / "color", restart=(*proxied.docker, "exec", "shop-blue-1", "true"))
    (problem,) = await found(pointer)
    assert problem.startswith("container shop-blue-1: does not run")


async def test_the_nginx_of_a_container_is_not_that_of_the_host(
    engine: Engine, nginx_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its processes are visible on the host, and may have the same title as the tested one."""
    proxied = Proxied(engine, tmp_path, nginx_image)
    command = nginx_access._Command((), ("-t",))
    assert nginx_access._title(proxied.master) == "/usr/sbin/nginx -e /dev/stderr"
    assert "/usr/sbin/nginx -e /dev/stderr" not in [master.title for master in nginx_access._masters()]
    monkeypatch.setattr(nginx_access, "_masters", list)
    (problem,) = nginx_access._other_nginx(("nginx", "-t"), command, None)
    assert "`docker exec` if it runs in a container" in problem.fix
    assert proxied.include.exists()

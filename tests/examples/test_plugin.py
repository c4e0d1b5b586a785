"""examples/plugin is a separate distribution: it installs, registers its resource, and keeps the contracts."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = Path(__file__).parents[2] / "examples" / "plugin"

CONFIGURATION = """
state: sqlite:///{directory}/state.db
prometheus: {{url: http://localhost:9090}}
alertmanager: {{urls: [http://localhost:9093]}}
services:
  - name: shop
    environment: production
    rollback: {{strategy: immediate, resource: {{resource: nomad_job, job: shop}}}}
    health_checks: [{{http: "http://localhost/health"}}]
policies:
  - {{name: shop-down, match: ['alertname="ShopDown"'], roll_back: [shop]}}
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with nothing but the installed plugin."""
    source, target = tmp_path_factory.mktemp("source") / "plugin", tmp_path_factory.mktemp("target")
    shutil.copytree(PLUGIN, source, ignore=shutil.ignore_patterns("__pycache__", "tests"))
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(source)], check=True)
    return target


def run(installed: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(installed), str(PLUGIN.parents[1])))}
    environment.pop("PYTEST_ADDOPTS", None)
    done = subprocess.run([sys.executable, *arguments], env=environment, cwd=installed, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_its_resource_is_registered(installed: Path) -> None:
    shown = run(
        installed,
        "-c",
        "from responder.backends.registries import RESOURCES as r; print(r.names[-1], r.load('nomad_job').__module__)",
    )
    assert shown.split() == ["nomad_job", "rollback_responder_nomad.job"]


def test_a_configuration_can_use_it(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "responder.yml").write_text(CONFIGURATION.format(directory=tmp_path))
    shown = run(installed, "-m", "responder", "check", "--config", str(tmp_path / "responder.yml"))
    assert "1 service" in shown


def test_it_keeps_the_contracts_and_rolls_a_job_back(installed: Path) -> None:
    """Its own tests: the laws of a resource, and rollbacks by the strategy `immediate` with crashes at any call."""
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:cloudcoil", "-c", str(PLUGIN / "pyproject.toml")]
    shown = run(installed, "-m", "pytest", *options, str(PLUGIN))
    assert re.fullmatch(r"\d+ passed in .*", shown.splitlines()[-1]), shown

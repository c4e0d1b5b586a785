"""The wheel holds the code and all assets, and works without the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from email import message_from_string
from pathlib import Path
from zipfile import ZipFile

import pytest

from responder import assets

ROOT = Path(__file__).parents[2]
RESPONDER = """
state: sqlite:///var/lib/responder/state.db
prometheus: {url: "http://127.0.0.1:9090"}
alertmanager: {urls: ["http://127.0.0.1:9093"]}
web: {listen: "127.0.0.1:9095"}
services:
  - name: backend
    environment: production
    rollback: {strategy: immediate, release: {root: /srv/backend, restart: ["true"]}}
    health_checks: [{http: "http://127.0.0.1:8080/health"}]
"""
EXPORTERS = "checks: [{id: health, type: http_response, url: 'http://127.0.0.1:8080', service: a, environment: b}]\n"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from what the build of the image gets."""
    tree, made = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line.startswith("!"):
            source, target = ROOT / line[1:], tree / line[1:]
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "-q", "--no-deps"]
    built = subprocess.run(
        [*pip, "--no-build-isolation", "-w", made, tree], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    return next(made.glob("*.whl"))


def test_the_wheel_holds_all_modules_and_assets(wheel: Path) -> None:
    with ZipFile(wheel) as opened:
        held = {name: opened.read(name) for name in opened.namelist()}
    expected = {f"responder/assets/{name}": path for name, path in assets.files()}
    assert {"alert_rules/errors.yml", "LICENSE", "systemd/responder.service", "docs/runbooks/ResponderDown.md"} <= {
        name.removeprefix("responder/assets/") for name in expected
    }
    for package in ("responder", "exporters", "foundation"):
        for path in (ROOT / package).rglob("*"):
            if path.suffix in (".py", ".sql", ".html", ".j2", ".typed"):
                expected[path.relative_to(ROOT).as_posix()] = path
    assert {name for name in held if ".dist-info/" not in name} == set(expected)
    assert [name for name, path in expected.items() if path.read_bytes() != held[name]] == []


def test_the_metadata_names_the_license(wheel: Path) -> None:
    with ZipFile(wheel) as opened:
        held = {name.partition(".dist-info/")[2]: name for name in opened.namelist()}
        metadata = message_from_string(opened.read(held["METADATA"]).decode())
        assert opened.read(held["licenses/LICENSE"]) == (ROOT / "LICENSE").read_bytes()
    assert metadata["License-Expression"] == "Apache-2.0"
    assert set(metadata.get_all("License-File", ())) == {"LICENSE", "NOTICE"}


@pytest.mark.soak
def test_both_programs_run_from_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "venv"], cwd=tmp_path, check=True)
    programs = tmp_path / "venv" / "bin"
    subprocess.run([programs / "pip", "install", "-q", wheel], cwd=tmp_path, check=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}

    def run(program: str, *words: str) -> str:
        ran = subprocess.run(
            [programs / program, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    assert str(programs.parent) in run("python", "-c", "import responder; print(responder.__file__)")
    assert run("responder", "--version").startswith("responder ")
    (tmp_path / "responder.yml").write_text(RESPONDER)
    run("responder", "check")
    (tmp_path / "exporters.yml").write_text(EXPORTERS)
    run("exporters", "check")
    run("responder", "assets", "written")
    assert (tmp_path / "written" / "docs" / "runbooks" / "HighErrorRate.md").is_file()

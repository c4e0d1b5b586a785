"""The release workflow uses what the repository has, and only pinned actions of known owners."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.rendering import helm

ROOT = Path(__file__).parents[2]
WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())
JOBS = WORKFLOW["jobs"]
OWNERS = {"actions", "docker", "pypa"}
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


def steps() -> Iterator[dict[str, Any]]:
    for job in JOBS.values():
        yield from job["steps"]


def test_actions_are_pinned_and_official() -> None:
    used = [step["uses"] for step in steps() if "uses" in step]
    assert {name.partition("/")[0] for name in used} == OWNERS
    assert [name for name in used if not re.fullmatch(r"[\w/.-]+@(release/)?v\d+", name)] == []


def test_nothing_is_published_before_the_tests_pass() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read"}
    for name, job in JOBS.items():
        before = {name}
        while needed := {JOBS[job]["needs"] for job in before if "needs" in JOBS[job]} - before:
            before |= needed
        assert "test" in before, name
        assert ("write" in job.get("permissions", {}).values()) == (name != "test"), name


def test_its_commands_exist() -> None:
    scripts = [step["run"] for step in steps() if "run" in step]
    made = {
        target for script in scripts for words in re.findall(r"^make (.+)$", script, re.M) for target in words.split()
    }
    assert made == {"package", "sbom"} <= TARGETS
    assert (ROOT / ".ci" / "run").is_file()
    assert "bash .ci/run" in scripts
    assert not any("${{" in script for script in scripts), "names of tags would become a part of the script"


def test_the_tag_must_be_the_version(tmp_path: Path) -> None:
    (check,) = (step["run"] for step in steps() if step.get("name") == "Check that the tag is the version")
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.M)
    assert version is not None
    for tag, code in ((f"v{version[1]}", 0), ("v9.9.9", 1)):
        ran = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", check.replace("python -c", f"{sys.executable} -c")],
            cwd=tmp_path, env={"GITHUB_REF_NAME": tag, "PATH": "/usr/local/bin:/usr/bin:/bin"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (ran.returncode, version[1] in ran.stdout) == (code, bool(code)), ran.stderr


def test_the_chart_installs_the_released_image(tmp_path: Path) -> None:
    (publish,) = (step["run"] for step in steps() if "Helm chart" in step.get("name", ""))
    shutil.copytree(ROOT / "deploy" / "helm", tmp_path / "deploy" / "helm")
    (tmp_path / "helm").write_text('#!/bin/sh\ncat >/dev/null\necho "$@" >>helm.log\n')
    (tmp_path / "helm").chmod(0o755)
    env = {"IMAGE": "ghcr.io/owner/responder", "GITHUB_REF_NAME": "v0.1.0", "GITHUB_ACTOR": "alice", "TOKEN": "x"}
    path = {"PATH": f"{tmp_path}:/usr/local/bin:/usr/bin:/bin"}
    argv = ["bash", "-eo", "pipefail", "-c", publish]
    subprocess.run(argv, cwd=tmp_path, env=env | path, stdin=subprocess.DEVNULL, check=True)
    package, _, push = (tmp_path / "helm.log").read_text().splitlines()
    assert package == "package deploy/helm --app-version v0.1.0"
    assert push.endswith("oci://ghcr.io/owner/charts")
    archive = helm().package(tmp_path / "deploy" / "helm", destination=tmp_path, app_version="v0.1.0")
    with helm().Chart.load(archive) as chart:
        rendered = "".join(chart.render({}).values())
    assert set(re.findall(r"image: (.+)", rendered)) == {"ghcr.io/owner/responder:v0.1.0"}


@pytest.mark.soak
def test_the_sbom_lists_every_package_of_the_image() -> None:
    subprocess.run(["make", "sbom"], cwd=ROOT, check=True, capture_output=True)
    sbom = json.loads((ROOT / "dist" / "rollback-responder.cdx.json").read_text())
    assert (sbom["bomFormat"], sbom["metadata"]["component"]["name"]) == ("CycloneDX", "rollback-responder")
    listed = {re.sub(r"[-_.]+", "-", c["name"]).lower(): c["version"] for c in sbom["components"]}
    lock = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / "requirements.image.lock").read_text(), re.M))
    assert listed == {name: version for name, version in lock.items() if name in listed}
    assert set(lock) - set(listed) <= {"setuptools", "async-timeout"}, "async-timeout: only for Python before 3.11.3"

"""The CI pipelines of the documentation, verbatim, against a real responder with the token that they show."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import parts
from tests.acceptance.stage import REPOSITORY

PAGE = (REPOSITORY / "docs" / "how-to" / "version-registry.md").read_text()
SECTION = PAGE.split("## Report from a CI pipeline\n", 1)[1].split("\n## ", 1)[0]
BLOCKS = [yaml.safe_load(text) for text in re.findall(r"^```yaml\n(.*?)^```$", SECTION, re.M | re.S)]
CONFIGURATION, GITHUB, GITLAB = BLOCKS
TOKEN, READER = "0123456789abcdef-of-the-pipeline", "0123456789abcdef-of-the-reader"
ADDRESS = "https://responder.example"
RAN = {
    "GITHUB_REF_NAME": "2.1",
    "GITHUB_RUN_ID": "1234",
    "GITHUB_RUN_ATTEMPT": "1",
    "GITHUB_SERVER_URL": "https://github.example",
    "GITHUB_REPOSITORY": "shop/backend",
    "CI_COMMIT_TAG": "2.1",
    "CI_JOB_ID": "99",
    "CI_PIPELINE_URL": "https://gitlab.example/shop/backend/-/pipelines/7",
}


def steps(pipeline: str) -> list[tuple[str, dict[str, str]]]:
    """The commands of a pipeline in order, each with its variables."""
    if pipeline == "github":
        run_steps = [step for step in GITHUB["jobs"]["deploy"]["steps"] if "run" in step]
        return [(step["run"], step.get("env", {})) for step in run_steps]
    return [(line, GITLAB["deploy"]["variables"]) for line in GITLAB["deploy"]["script"]]


class Runner:
    """Runs the commands of a job until one fails, as CI systems do."""

    def __init__(self, directory: Path, url: str) -> None:
        self.directory, self.url, self.token = directory, url, TOKEN
        (directory / "deploy").write_text('#!/bin/sh\necho "$@" >>deployed\n')
        (directory / "deploy").chmod(0o755)

    def run(self, pipeline: str, **changed: str) -> subprocess.CompletedProcess[str]:
        for command, variables in steps(pipeline):
            given = {name: self._filled(value) for name, value in variables.items()}
            path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
            env = {**os.environ, "PATH": path, "RESPONDER_TOKEN": self.token, **RAN, **given, **changed}
            shell = ["bash", "-e", "-c", command]
            ran = subprocess.run(shell, cwd=self.directory, env=env, capture_output=True, text=True, check=False)
            if ran.returncode:
                return ran
        return ran

    def _filled(self, value: str) -> str:
        return {ADDRESS: self.url, "${{ secrets.RESPONDER_TOKEN }}": self.token}[value]

    def reported(self) -> list[tuple[str, str, str]]:
        request = urllib.request.Request(
            f"{self.url}/api/v1/deployments", headers={"Authorization": f"Bearer {READER}"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            body: dict[str, Any] = json.load(answer)
        return [
            (deployment["id"], deployment["version"], deployment["recorded_by"]) for deployment in body["deployments"]
        ]


@pytest.fixture
async def runner(tmp_path: Path) -> AsyncIterator[Runner]:
    parts.need("curl")
    port = parts.free_port()
    (tmp_path / "pipeline.token").write_text(TOKEN)
    web = json.loads(json.dumps(CONFIGURATION["web"]))
    web["tokens"][0]["file"] = str(tmp_path / "pipeline.token")
    web["tokens"].append({"name": "reader", "scopes": ["read"], "token": READER})
    release = {"root": str(tmp_path), "restart": ["/bin/true"]}
    healthy = [{"http": "http://127.0.0.1:1/"}]
    config = {
        "state": f"sqlite://{tmp_path}/state.db",
        "prometheus": {"url": "http://127.0.0.1:1"},
        "alertmanager": {"urls": ["http://127.0.0.1:1"]},
        "web": {"listen": f"127.0.0.1:{port}", **web},
        "services": [
            {"name": name, "environment": "production", "health_checks": healthy,
             "rollback": {"strategy": "immediate", "release": release}}
            for name in ("backend", "cart")
        ],
        "policies": [],
    }  # fmt: skip
    (tmp_path / "responder.yml").write_text(yaml.safe_dump(config))
    process = await parts.Process.start(
        [sys.executable, "-m", "responder", "serve", "--config", str(tmp_path / "responder.yml")],
        log=tmp_path / "responder.log",
        ready=f"http://127.0.0.1:{port}/-/ready",
        cwd=REPOSITORY,
    )
    yield Runner(tmp_path, f"http://127.0.0.1:{port}")
    await process.terminate()


@pytest.mark.parametrize(("pipeline", "first", "again"), [
    ("github", "github-1234-1", {"GITHUB_RUN_ATTEMPT": "2"}),
    ("gitlab", "gitlab-99", {"CI_JOB_ID": "100"}),
])  # fmt: skip
async def test_a_pipeline_deploys_and_reports(runner: Runner, pipeline: str, first: str, again: dict[str, str]) -> None:
    ran = runner.run(pipeline)
    assert ran.returncode == 0, ran.stderr
    assert (runner.directory / "deployed").read_text() == "backend 2.1\n"
    assert runner.reported() == [(first, "2.1", "backend-pipeline")]
    assert runner.run(pipeline).returncode == 0  # the same attempt, as if the request were sent twice
    assert len(runner.reported()) == 1
    assert runner.run(pipeline, **again).returncode == 0
    assert len(runner.reported()) == 2


@pytest.mark.parametrize("pipeline", ["github", "gitlab"])
async def test_a_rejected_report_fails_the_job(runner: Runner, pipeline: str) -> None:
    runner.token = "0123456789abcdef-of-somebody-else"
    ran = runner.run(pipeline)
    assert ran.returncode != 0
    assert "the bearer token is wrong" in ran.stdout + ran.stderr
    assert runner.reported() == []


async def test_the_token_allows_nothing_else(runner: Runner) -> None:
    (reporting,) = [command for command, _ in steps("gitlab") if command.startswith("responder ")]
    assert shlex.split(reporting)[2] == "backend"
    other = {**os.environ, "RESPONDER_URL": runner.url, "RESPONDER_TOKEN": TOKEN}
    for words in (
        ["deployed", "cart", "1.0", "--environment", "production"],
        ["stop", "--all", "--reason", "x"],
        ["status"],
    ):
        argv = [sys.executable, "-m", "responder", *words]
        ran = subprocess.run(argv, env=other, capture_output=True, text=True, check=False, cwd=REPOSITORY)
        assert ran.returncode == 2, (words, ran.stdout, ran.stderr)
        assert "backend-pipeline" in ran.stderr
    assert runner.reported() == []

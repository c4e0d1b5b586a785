"""The examples that begin a how-to page, where they are commands: each runs against a live responder."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import parts
from tests.acceptance.stage import REPOSITORY

HOW_TO = REPOSITORY / "docs" / "how-to"
ID = "20261123-231500-4f2a9c1b"  # as the pages show one
UNHEALTHY = {"responder watch", "responder report", "responder status"}
"""Commands that exit with 1 here, because the service of this test does not recover."""


def example(page: str) -> list[str]:
    """The command lines of the first code block."""
    [text] = re.findall(r"\A.*?^```\n(.*?)^```$", (HOW_TO / f"{page}.md").read_text(), re.M | re.S)
    return [line for line in str(text).replace("\\\n", " ").splitlines() if line]


class Host:
    """The machine of an engineer who has `responder` and `amtool`."""

    def __init__(self, directory: Path, url: str, alertmanager: str) -> None:
        self.directory = directory
        config = directory / ".config"
        for path in (config / "amtool" / "config.yml", config / "prometheus" / "amtool.yml"):
            path.parent.mkdir(parents=True)
            path.write_text(f"alertmanager.url: {alertmanager}\n")
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": path, "HOME": str(directory), "RESPONDER_URL": url}

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        shell = ["bash", "-c", command]
        return subprocess.run(
            shell, cwd=self.directory, env=self.environment, capture_output=True, text=True, check=False
        )

    def output(self, command: str) -> str:
        ran = self.run(command)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout


def _config(directory: Path, port: int, prometheus: str, alertmanager: str) -> dict[str, Any]:
    def service(name: str) -> dict[str, Any]:
        release = {"root": str(directory / name), "restart": ["/bin/true"]}
        return {
            "name": name,
            "environment": "production",
            "rollback": {"strategy": "immediate", "release": release},
            "health_checks": [{"promql": "vector(0)", "at_least": 1}],
        }

    return {
        "state": f"sqlite://{directory}/state.db",
        "prometheus": {"url": prometheus},
        "alertmanager": {"urls": [alertmanager]},
        "web": {"listen": f"127.0.0.1:{port}"},
        "services": [service("backend"), service("frontend")],
        "policies": [
            {
                "name": "failing",
                "match": ['alertname="ServiceFailing"'],
                "roll_back": ["backend"],
                "verify": {"for": "1s", "within": "1s"},
            }
        ],
    }


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    parts.need("prometheus", "prometheus-alertmanager", "amtool")
    port = parts.free_port()
    for version in ("1.0", "2.0", "2.1"):
        (tmp_path / "backend" / "releases" / version).mkdir(parents=True)
    (tmp_path / "backend" / "current").symlink_to("releases/2.1")
    route = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"
    async with parts.alertmanager(tmp_path, route) as alertmanager, parts.prometheus(tmp_path, "{}") as prometheus:
        config = _config(tmp_path, port, prometheus.url, alertmanager.url)
        (tmp_path / "responder.yml").write_text(yaml.safe_dump(config))
        process = await parts.Process.start(
            [sys.executable, "-m", "responder", "serve", "--config", str(tmp_path / "responder.yml")],
            log=tmp_path / "responder.log",
            ready=f"http://127.0.0.1:{port}/-/ready",
            cwd=REPOSITORY,
        )
        engineer = Host(tmp_path, f"http://127.0.0.1:{port}", alertmanager.url)
        for version in ("1.0 --good", "2.0", "2.1"):
            engineer.output(f"responder deployed backend {version} --environment production")
        yield engineer
        await process.terminate()


async def _stuck(host: Host) -> str:
    """The ID of a rollback that is stuck, because the service does not recover."""
    host.output('responder rollback backend --reason "trying"')
    for _ in range(600):
        [execution] = json.loads(host.output("responder history --output json"))
        if execution["state"] == "stuck":
            return str(execution["id"])
        await asyncio.sleep(0.1)
    raise AssertionError((host.directory / "responder.log").read_text())


@pytest.mark.parametrize(
    "page", ["mark-versions", "reports", "steer-with-amtool", "version-registry", "when-it-is-stuck"]
)
async def test_the_commands_that_begin_the_page_succeed(host: Host, page: str) -> None:
    commands = example(page)
    execution = await _stuck(host) if ID in "".join(commands) else ""
    for command in commands:
        ran = host.run(command.replace(ID, execution))
        expected = {0, 1} if " ".join(command.split()[:2]) in UNHEALTHY else {0}
        assert ran.returncode in expected, (command, ran.stdout, ran.stderr)
        assert "Traceback" not in ran.stderr

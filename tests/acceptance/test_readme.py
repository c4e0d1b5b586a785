"""README verbatim: its configuration, Alertmanager snippet and commands, on real processes with shipped rules.

Only addresses, paths and the restart command are replaced, and the scrape and evaluation intervals shortened.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from exporters.config import load as load_exporters
from tests import parts
from tests.acceptance.stage import REPOSITORY, CommandResult, ShopProcess

RULES = REPOSITORY / "alert_rules"
README = (REPOSITORY / "README.md").read_text()
ID = "20261123-231500-4f2a9c1b"  # as in README
TOKENS = ("alertmanager", "prometheus", "alice")


def block(heading: str, language: str = "", number: int = 0) -> str:
    """The code block in that language below a heading."""
    section = README.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", section, re.M | re.S)
    return [text for tagged, text in blocks if tagged == language][number]


def lines(text: str) -> list[str]:
    return [line.partition("   #")[0].strip() for line in text.splitlines() if line.strip()]


ON_CALL = lines(block("On call"))


def replaced(text: str, replacements: Mapping[str, str]) -> str:
    for old, new in replacements.items():
        text = text.replace(old, new)
    return text


class Backend(ShopProcess):
    """The service of README: 1.0, then 1.1 with some failing requests; and the series of its checks."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.failing_since: float | None = None
        self.series = parts.free_port()
        for version in ("1.0", "1.1"):
            self.release(version, healthy=True)
        (self.root / "current").unlink()
        (self.root / "current").symlink_to("releases/1.0")
        (self.root / "releases" / "1" / "health").unlink()
        (self.root / "releases" / "1").rmdir()

    async def page(self, _: web.Request) -> web.Response:
        failed = 0 if self.failing_since is None else int(20 * (time.monotonic() - self.failing_since))
        labels = 'service="backend",environment="production"'
        samples = [
            f'probe_success{{{labels},check_id="health"}} 1',
            f'http_requests_total{{{labels},code="500"}} {failed}',
            f'http_requests_total{{{labels},code="200"}} {int(20 * time.monotonic())}',
        ]
        return web.Response(text="\n".join([*samples, ""]))


class Readme:
    """All processes that README requires."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.backend = directory, Backend(directory)
        self.ports = {name: parts.free_port() for name in ("prometheus", "alertmanager", "responder")}
        self.url = f"http://127.0.0.1:{self.ports['responder']}"
        self.config = directory / "etc" / "responder.yml"
        self.environment: dict[str, str] = {}

    async def up(self, leaving: contextlib.AsyncExitStack) -> None:
        etc, home = self.directory / "etc", self.directory / "home"
        for path in (etc, self.directory / "lib"):
            path.mkdir(parents=True)
        for name in TOKENS:
            (etc / f"{name}.token").write_text(f"the-token-of-{name}-in-this-test")
            (etc / f"{name}.token").chmod(0o600)
        documented = re.search(r"`amtool` reads .*?: `(alertmanager.url: .*?)`", README, re.S)
        assert documented, "README must say how amtool finds Alertmanager"
        for path in re.findall(r"`~/(.*?)`", documented[0]):
            (home / path).parent.mkdir(parents=True)
            (home / path).write_text(self._here(documented[1]))
        self.environment = {
            **os.environ,
            "HOME": str(home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "RESPONDER_TOKEN": (etc / "alice.token").read_text(),
            "RESPONDER_URL": self.url,
            "PYTHONUNBUFFERED": "1",
        }
        self.config.write_text(self._here(block("Configuration", "yaml")))
        leaving.push_async_callback(self.backend.end)
        await self.backend.start()
        app = web.Application()
        app.router.add_get("/metrics", self.backend.page)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        leaving.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", self.backend.series).start()
        routes = self._here(block("Alert routing", "yaml"))
        port = self.ports["alertmanager"]
        await leaving.enter_async_context(parts.alertmanager(self.directory, routes, port=port))
        self.prometheus = await leaving.enter_async_context(
            parts.prometheus(self.directory, self._scraping(), rules=_shipped(), port=self.ports["prometheus"])
        )

    def _here(self, text: str) -> str:
        replacements = {
            "/var/lib/responder": f"{self.directory}/lib",
            "/etc/responder": f"{self.directory}/etc",
            "/etc/alertmanager/responder.token": f"{self.directory}/etc/alertmanager.token",
            "/etc/prometheus/responder.token": f"{self.directory}/etc/prometheus.token",
            "/srv/backend": str(self.backend.root),
            "[systemctl, restart, backend]": yaml.safe_dump(self.backend.restart, default_flow_style=True).strip(),
            "http://127.0.0.1:8080": self.backend.url,
            "web:\n": f"web:\n  listen: 127.0.0.1:{self.ports['responder']}\n",
            "localhost:9090": f"127.0.0.1:{self.ports['prometheus']}",
            "127.0.0.1:9090": f"127.0.0.1:{self.ports['prometheus']}",
            "localhost:9093": f"127.0.0.1:{self.ports['alertmanager']}",
            "127.0.0.1:9093": f"127.0.0.1:{self.ports['alertmanager']}",
            "127.0.0.1:9095": f"127.0.0.1:{self.ports['responder']}",
        }
        return replaced(text, replacements)

    def _scraping(self) -> str:
        """The shipped configuration of Prometheus; the service's own metrics replace the exporter."""
        configuration = yaml.safe_load(self._here((RULES / "prometheus.example.yml").read_text()))
        configuration["global"] = {
            "scrape_interval": "500ms",
            "scrape_timeout": "500ms",
            "evaluation_interval": "500ms",
        }
        probes = {"job_name": "probes", "static_configs": [{"targets": [f"127.0.0.1:{self.backend.series}"]}]}
        others = ("responder", "alertmanager", "prometheus")
        configuration["scrape_configs"] = [
            probes,
            *(job for job in configuration["scrape_configs"] if job["job_name"] in others),
        ]
        return str(yaml.safe_dump(configuration))

    async def serve(self, leaving: contextlib.AsyncExitStack) -> None:
        command = lines(block("Start"))[1]
        argv = ["bash", "-c", f"exec {self._here(command)}"]
        process = await parts.Process.start(
            argv, log=self.directory / "responder.log", ready=f"{self.url}/-/ready", env=self.environment
        )
        leaving.push_async_callback(process.terminate)

    async def run(self, line: str, *, execution: str = "", leave_at: str = "") -> CommandResult:
        """Runs one line of README in a shell. `leave_at`: sends Ctrl-C once it has printed that."""
        line = self._here(line).replace(ID, execution)
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            "bash", "-c", f"exec {line}", cwd=self.directory, env=self.environment, stdout=pipe, stderr=pipe
        )
        assert process.stdout
        seen = b""
        while leave_at and leave_at.encode() not in seen and (more := await process.stdout.read(4096)):
            seen += more
        if leave_at:
            process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
        return CommandResult(process.returncode or 0, (seen + out).decode(), err.decode())

    async def ask(self, path: str) -> Any:
        headers = {"Authorization": f"Bearer {self.environment['RESPONDER_TOKEN']}"}
        return await parts._call("GET", f"{self.url}{path}", headers=headers)

    async def executions(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.ask("/api/v1/executions"))["executions"]
        return found

    async def decisions(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.ask("/api/v1/decisions?limit=100"))["decisions"]
        return found


def _shipped() -> dict[str, str]:
    return {file.name: file.read_text() for file in RULES.glob("*.yml") if "example" not in file.name}


@pytest.fixture
async def readme(tmp_path: Path) -> AsyncIterator[tuple[Readme, contextlib.AsyncExitStack]]:
    parts.need("prometheus", "prometheus-alertmanager")
    async with contextlib.AsyncExitStack() as leaving:
        instance = Readme(tmp_path)
        await instance.up(leaving)
        yield instance, leaving


def the_line(*words: str) -> str:
    """The line of the block "On call" with these words."""
    (found,) = [line for line in ON_CALL if all(word in line for word in words)]
    return found


async def test_readme_works_as_pasted(readme: tuple[Readme, contextlib.AsyncExitStack]) -> None:
    setup, leaving = readme
    await setup.prometheus.until('min_over_time(probe_success{service="backend"}[30s]) >= 1')
    check = await setup.run(lines(block("Start"))[0])
    assert (check.code, check.out.splitlines()[-1]) == (0, "no problems found"), check.out
    assert "1 service; policies: forced (force), after-deploy (observe)" in check.out

    await setup.serve(leaving)
    first, second = lines(block("Start", number=1))
    assert (await setup.run(first)).code == 0
    await setup.backend.switch("1.1")
    assert (await setup.run(second)).code == 0
    await parts.until(lambda: setup.ask("/api/v1/status"), lambda status: bool(status["armed"]), within=60)
    left = set(ON_CALL)

    async def paste(*words: str, **how: str) -> CommandResult:
        left.discard(line := the_line(*words))
        return await setup.run(line, **how)

    result = await paste("responder status")
    assert (result.code, "armed" in result.out) == (0, True), result
    assert (await paste("responder report")).code == 0
    plan = await paste("responder rollback", "--dry-run")
    assert plan.code == 0, plan
    assert "current release of" in plan.out
    assert await setup.executions() == []

    # The shipped rules offer HighErrorRate; the policy of README matches it in observe mode.
    setup.backend.failing_since = time.monotonic()
    offered = await parts.until(
        setup.decisions, lambda all_: any(decision["policy"] == "after-deploy" for decision in all_), within=60
    )
    assert {decision["policy"] for decision in offered} == {"after-deploy"}
    assert not [decision for decision in offered if "no policy matches" in str(decision["reason"])]
    assert "after-deploy" in (await paste("responder explain --last")).out

    # Roll back now.
    assert (await paste("amtool alert add", "RollbackRequested")).code == 0
    (begun,) = await parts.until(setup.executions, within=60)
    assert (begun["policy"], begun["reason"]) == ("forced", "slow")
    await parts.until(setup.backend.version, lambda version: version == "1.0", within=60)
    watched = await paste("responder watch", execution=begun["id"], leave_at="current release of")
    assert "current release of" in watched.out
    stopped = await paste("responder stop", "--reason", "false alarm", execution=begun["id"])
    assert stopped.code == 0, stopped
    ended = await parts.until(setup.executions, lambda all_: all_[0]["state"] == "closed", within=60)
    assert ended[0]["outcome"] == "cancelled"
    assert await setup.backend.version() == "1.1"

    assert (await paste("amtool silence add", "service=backend")).code == 0
    assert (await paste("amtool silence add", "RollbackAutomationArmed")).code == 0
    status = await parts.until(lambda: setup.ask("/api/v1/status"), lambda status: not status["armed"], within=60)
    assert "all rollbacks off" in status["stopped"]
    assert (await paste("responder stop --all")).code == 0
    resumed = re.search(r"resume: (responder close --all .*)$", block("On call"), re.M)
    assert resumed and (await setup.run(resumed[1])).code == 0
    assert left == set(), "lines of README that were not run"


def test_every_line_starts_an_installed_program() -> None:
    assert {shlex.split(line)[0] for line in ON_CALL} == {"responder", "amtool"}


def test_installation_creates_every_token() -> None:
    install = block("Install")
    created = re.search(r"for name in ([\w ]+);", install)
    configured = [token["name"] for token in yaml.safe_load(block("Configuration", "yaml"))["web"]["tokens"]]
    assert created and created[1].split() == configured == list(TOKENS)
    used = block("Alert routing", "yaml") + (RULES / "prometheus.example.yml").read_text()
    copies = set(re.findall(r"credentials_file: ([\w./]+)", used))
    assert copies == set(re.findall(r"/etc/(?:alertmanager|prometheus)/\S+", install))


def test_exporters_accept_their_configuration(tmp_path: Path) -> None:
    (tmp_path / "exporters.yml").write_text(block("Configuration", "yaml", 1))
    (check,) = load_exporters(tmp_path / "exporters.yml", {}).config.checks
    assert (check.service, check.environment) == ("backend", "production")

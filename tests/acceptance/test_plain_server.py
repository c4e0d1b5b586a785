"""The tutorial for Linux servers and the page On call, pasted: `responder init`, real processes, the shipped rules.

Only addresses, paths and the restart command are replaced, and the intervals shortened. There is no systemd: the test
runs `ExecStart` of the units that `responder init` wrote.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import re
import shlex
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from tests import parts
from tests.acceptance.stage import REPOSITORY, CommandResult, ShopProcess

DOCS = REPOSITORY / "docs"
TUTORIAL = (DOCS / "tutorials" / "plain-server.md").read_text()
ON_CALL_PAGE = (DOCS / "on-call.md").read_text()
ID = "20261123-231500-4f2a9c1b"  # as on the page


def block(page: str, heading: str, number: int = 0) -> list[str]:
    """The lines of a code block below a heading, without comments."""
    section = page.split(f"# {heading}\n", 1)[1].split("\n## ", 1)[0]
    text = re.findall(r"^```sh\n(.*?)^```$", section, re.M | re.S)[number]
    return [line.partition("   #")[0].strip() for line in text.splitlines() if line.strip()]


ON_CALL = block(ON_CALL_PAGE, "On call")


def replaced(text: str, replacements: Mapping[str, str]) -> str:
    for old, new in replacements.items():
        text = text.replace(old, new)
    return text


class Backend(ShopProcess):
    """The service of the tutorial, with good and bad releases, and its own series."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.failing_since: float | None = None
        self.series = parts.free_port()
        for version in ("1.0", "1.1", "1.2", "1.3"):
            self.release(version, healthy=version < "1.2")
        (self.root / "current").unlink()
        (self.root / "current").symlink_to("releases/1.0")
        (self.root / "releases" / "1" / "health").unlink()
        (self.root / "releases" / "1").rmdir()

    async def page(self, _: web.Request) -> web.Response:
        failed = 0 if self.failing_since is None else int(20 * (time.monotonic() - self.failing_since))
        labels = 'service="backend",environment="production"'
        samples = [
            f'http_requests_total{{{labels},code="500"}} {failed}',
            f'http_requests_total{{{labels},code="200"}} {int(20 * time.monotonic())}',
        ]
        return web.Response(text="\n".join([*samples, ""]))


class Server:
    """The Linux server of the tutorial."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.backend = directory, Backend(directory)
        self.ports = {name: parts.free_port() for name in ("prometheus", "alertmanager", "responder", "exporters")}
        self.url = f"http://127.0.0.1:{self.ports['responder']}"
        self.etc = directory / "setup"
        self.environment: dict[str, str] = {}

    async def set_up(self, leaving: contextlib.AsyncExitStack) -> None:
        """Follows the section "Set up", and the next steps that it prints."""
        home = self.directory / "home"
        documented = re.search(r"`(alertmanager.url: .*?)`", ON_CALL_PAGE)
        assert documented, "the page must say how amtool finds Alertmanager"
        for path in re.findall(r"`~/(.*?)`", ON_CALL_PAGE):
            (home / path).parent.mkdir(parents=True)
            (home / path).write_text(self._here(documented[1]))
        self.environment = {
            **os.environ,
            "HOME": str(home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "RESPONDER_URL": self.url,
            "PYTHONUNBUFFERED": "1",
        }
        leaving.push_async_callback(self.backend.end)
        await self.backend.start()
        (line,) = block(TUTORIAL, "Set up")
        done = await self.run(f"{line} --restart {shlex.quote(shlex.join(self.backend.restart))}")
        assert done.code == 0, done
        for file in self.etc.rglob("*"):
            if file.suffix in (".yml", ".conf"):
                file.write_text(self._here(file.read_text()))
        self._shorten_the_intervals()
        self.environment["RESPONDER_TOKEN"] = (self.etc / "tokens" / "operator.token").read_text().strip()
        await self._start_the_others(leaving)

    def _shorten_the_intervals(self) -> None:
        state = f"state: sqlite://{self.directory}/lib/state.db"
        (self.directory / "lib").mkdir()
        here = {
            "web:\n": f"web:\n  listen: 127.0.0.1:{self.ports['responder']}\n",
            "[30s]": "[3s]",
            "    roll_back: {label: service}\n": "    roll_back: {label: service}\n    verify: {for: 2s}\n",
        }
        responder = self.etc / "responder.yml"
        text = re.sub(r"^state: .*$", state, responder.read_text(), flags=re.M)
        responder.write_text(replaced(text, here))
        exporters = self.etc / "exporters.yml"
        configuration = yaml.safe_load(exporters.read_text())
        for check in configuration["checks"]:
            check |= {"interval": "1s", "timeout": "1s"}
        exporters.write_text(yaml.safe_dump({"listen": f"127.0.0.1:{self.ports['exporters']}", **configuration}))

    async def _start_the_others(self, leaving: contextlib.AsyncExitStack) -> None:
        app = web.Application()
        app.router.add_get("/metrics", self.backend.page)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        leaving.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", self.backend.series).start()
        await self.start("exporters", f"http://127.0.0.1:{self.ports['exporters']}/-/ready", leaving)
        routes = (self.etc / "alertmanager" / "alertmanager.yml").read_text().replace("interval: 10s", "interval: 1s")
        port = self.ports["alertmanager"]
        await leaving.enter_async_context(parts.alertmanager(self.directory, routes, port=port))
        rules = {f.name: f.read_text() for f in (self.etc / "prometheus").iterdir() if f.name != "prometheus.yml"}
        self.prometheus = await leaving.enter_async_context(
            parts.prometheus(self.directory, self._scraping(), rules=rules, port=self.ports["prometheus"])
        )

    def _here(self, text: str) -> str:
        replacements = {
            "/etc/responder": str(self.etc),
            "/etc/alertmanager/responder.token": f"{self.etc}/tokens/alertmanager.token",
            "/etc/prometheus/responder.token": f"{self.etc}/tokens/prometheus.token",
            "/srv/backend": str(self.backend.root),
            "systemctl restart backend": shlex.join(self.backend.restart),
            "http://127.0.0.1:8080": self.backend.url,
            "localhost:9090": f"127.0.0.1:{self.ports['prometheus']}",
            "127.0.0.1:9090": f"127.0.0.1:{self.ports['prometheus']}",
            "localhost:9093": f"127.0.0.1:{self.ports['alertmanager']}",
            "127.0.0.1:9093": f"127.0.0.1:{self.ports['alertmanager']}",
            "127.0.0.1:9095": f"127.0.0.1:{self.ports['responder']}",
            "127.0.0.1:9469": f"127.0.0.1:{self.ports['exporters']}",
        }
        return replaced(text, replacements)

    def _scraping(self) -> str:
        """The written configuration of Prometheus, and the service's own series."""
        configuration = yaml.safe_load((self.etc / "prometheus" / "prometheus.yml").read_text())
        configuration["global"] = {
            "scrape_interval": "500ms",
            "scrape_timeout": "500ms",
            "evaluation_interval": "500ms",
        }
        own = {"job_name": "backend", "static_configs": [{"targets": [f"127.0.0.1:{self.backend.series}"]}]}
        configuration["scrape_configs"].append(own)
        return str(yaml.safe_dump(configuration))

    async def start(self, program: str, ready: str, leaving: contextlib.AsyncExitStack) -> parts.Process:
        """Starts a program as its unit does."""
        unit = (self.etc / "systemd" / f"{program}.service.d" / "setup.conf").read_text()
        started = re.search(r"^ExecStart=(.+)$", unit, re.M)
        assert started
        argv, log = shlex.split(started[1]), self.directory / f"{program}.log"
        process = await parts.Process.start(argv, log=log, ready=ready, env=self.environment)
        leaving.push_async_callback(process.terminate)
        return process

    async def serve(self, leaving: contextlib.AsyncExitStack) -> None:
        self.responder = await self.start("responder", f"{self.url}/-/ready", leaving)

    async def edit(self, *words: str) -> None:
        """Changes the configuration with `sed`, and reloads the responder."""
        before = self.responder.tail(10_000).count("reloaded")
        assert (await self.run(shlex.join(words))).code == 0
        self.responder.signal(signal.SIGHUP)
        tail = functools.partial(asyncio.to_thread, self.responder.tail, 10_000)
        await parts.until(tail, lambda text: text.count("reloaded") > before, within=30)

    async def ship(self, version: str) -> None:
        await self.backend.switch(version)
        assert (await self.run(f"responder deployed backend {version} --environment production")).code == 0

    async def open(self) -> list[dict[str, Any]]:
        return [execution for execution in await self.executions() if execution["state"] != "closed"]

    async def paste(self, heading: str, number: int = 0) -> list[CommandResult]:
        """Runs a block of the tutorial."""
        return [await self.run(line) for line in block(TUTORIAL, heading, number)]

    async def run(self, line: str, *, execution: str = "", leave_at: str = "") -> CommandResult:
        """Runs one line in a shell. `leave_at`: sends Ctrl-C once it has printed that."""
        line = self._here(line).replace(ID, execution)
        line = line if "&&" in line else f"exec {line}"
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            "bash", "-c", line, cwd=self.directory, env=self.environment, stdout=pipe, stderr=pipe
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


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[tuple[Server, contextlib.AsyncExitStack]]:
    parts.need("prometheus", "prometheus-alertmanager")
    async with contextlib.AsyncExitStack() as leaving:
        instance = Server(tmp_path)
        await instance.set_up(leaving)
        yield instance, leaving


def the_line(*words: str) -> str:
    """The line of the page On call with these words."""
    (found,) = [line for line in ON_CALL if all(word in line for word in words)]
    return found


async def test_the_tutorial_works_as_pasted(server: tuple[Server, contextlib.AsyncExitStack]) -> None:
    here, leaving = server
    await here.serve(leaving)
    await here.prometheus.until('min_over_time(probe_success{service="backend"}[30s]) >= 1')
    (check,) = await here.paste("Set up", 1)
    assert (check.code, check.out.splitlines()[-1]) == (0, "no problems found"), check.out
    assert "1 service; policies: forced (force), after-deploy (observe)" in check.out
    await parts.until(lambda: here.ask("/api/v1/status"), lambda status: bool(status["armed"]), within=60)

    first, status = [await here.run(line) for line in block(TUTORIAL, "Report deployments")[1:]]
    assert (first.code, status.code, "armed" in status.out) == (0, 0, True), (first, status)
    deployed = await here.paste("Roll back by hand")
    assert [result.code for result in deployed] == [0, 0], deployed
    assert await here.backend.version() == "1.1"
    plan, force, watch = block(TUTORIAL, "Roll back by hand", 1)
    assert [(await here.run(line)).code for line in (plan, force)] == [0, 0]
    await parts.until(here.executions, within=60)
    watched = await here.run(watch)
    assert watched.code == 0, watched
    assert await here.backend.version() == "1.0"

    await here.ship("1.2")
    offered = await parts.until(
        here.decisions, lambda all_: any(decision["policy"] == "after-deploy" for decision in all_), within=60
    )
    assert {decision["policy"] for decision in offered} == {"after-deploy", "forced"}
    explained, rolled_back = await here.paste("Let it observe")
    assert "deny   mode" in explained.out and "observe mode: would have acted" in explained.out
    assert rolled_back.code == 0
    await parts.until(here.open, lambda open_: not open_, within=60)
    await here.prometheus.until('absent(ALERTS{alertstate="firing", rollback="true"})')

    edit, check, reload = block(TUTORIAL, "Let it act")
    assert reload == "systemctl reload responder"
    await here.edit(*shlex.split(edit))
    assert (await here.run(check)).code == 0
    await here.ship("1.3")
    await parts.until(here.backend.version, lambda version: version == "1.0", within=60)
    last, *_ = await parts.until(here.executions, lambda all_: all_[0]["outcome"] == "succeeded", within=60)
    assert last["policy"] == "after-deploy"
    await _on_call(here)
    (silenced,) = await here.paste("Let it act", 1)
    assert silenced.code == 0


async def _on_call(here: Server) -> None:
    """Runs every line of the page On call, while a rollback is verified."""
    left = set(ON_CALL)
    await here.edit("sed", "-i", "s/for: 2s/for: 120s/", f"{here.etc}/responder.yml")
    requested = "alertname=RollbackRequested service=backend environment=production"
    await here.run(
        f"amtool alert add {requested} --end={datetime.now(UTC).isoformat()}"
    )  # that of the tutorial is over
    await parts.until(lambda: here.run(f"amtool alert query {requested} -o json"), lambda r: r.out.strip() == "[]")

    async def paste(*words: str, **how: str) -> CommandResult:
        left.discard(line := the_line(*words))
        return await here.run(line, **how)

    result = await paste("responder status")
    assert (result.code, "armed" in result.out) == (0, True), result
    await here.ship("1.1")
    assert "Rollbacks since" in (await paste("responder report")).out
    for words in (("explain --last",), ("responder rollback", "--dry-run"), ("alert add",)):
        assert (await paste(*words)).code == 0
    (begun,) = await parts.until(here.open, within=60)
    assert (begun["policy"], begun["reason"]) == ("forced", "slow")
    await parts.until(here.backend.version, lambda version: version == "1.0", within=60)
    watched = await paste("responder watch", execution=begun["id"], leave_at="current release of")
    assert "current release of" in watched.out
    stopped = await paste("responder stop", "--reason", "false alarm", execution=begun["id"])
    assert stopped.code == 0, stopped
    ended = await parts.until(here.executions, lambda all_: all_[0]["state"] == "closed", within=60)
    assert ended[0]["outcome"] == "cancelled"
    assert await here.backend.version() == "1.1"

    assert (await paste("amtool silence add", "service=backend")).code == 0
    assert (await paste("amtool silence add", "RollbackAutomationArmed")).code == 0
    status = await parts.until(lambda: here.ask("/api/v1/status"), lambda status: not status["armed"], within=60)
    assert "all rollbacks off" in status["stopped"]
    assert (await paste("responder stop --all")).code == 0
    resumed = re.search(r"resume: (responder close --all .*)$", ON_CALL_PAGE, re.M)
    assert resumed and (await here.run(resumed[1])).code == 0
    assert left == set(), "lines of the page that were not run"


def test_every_line_starts_an_installed_program() -> None:
    assert {shlex.split(line)[0] for line in ON_CALL} == {"responder", "amtool"}

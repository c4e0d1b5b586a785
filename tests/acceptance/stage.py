"""Real processes only: Alertmanagers, `responder serve`, and a service."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from tests import parts
from tests.acceptance import shop

REPOSITORY = Path(__file__).parents[2]
RESPONDER = [sys.executable, "-m", "responder"]
LIGHT = [sys.executable, "-S", "-E", "-s", shop.__file__]
GOOD, BAD = "1", "2"

RULES = """
groups:
  - name: shop
    interval: 500ms
    rules:
      - alert: ShopBroken
        expr: shop_healthy == 0
        labels: {service: shop, environment: production, severity: critical}
        annotations: {summary: "release {{ $labels.version }} answers with errors"}
"""


@dataclass(frozen=True)
class HttpResult:
    """The answer of a responder."""

    status: int
    body: Any


@dataclass(frozen=True)
class CommandResult:
    """The result of a command."""

    code: int
    out: str
    err: str


class ShopProcess:
    """The service: a directory of releases, the link to one of them, and its supervisor."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "shop"
        self.log = directory / "shop.log"
        self.port = parts.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.restart = [*LIGHT, "restart", "--root", str(self.root)]
        self._process: parts.Process | None = None
        self.root.mkdir()
        self.release(GOOD, healthy=True)
        (self.root / "current").symlink_to(f"releases/{GOOD}")

    def release(self, version: str, *, healthy: bool) -> None:
        directory = self.root / "releases" / version
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "health").write_text("200" if healthy else "500")

    def restart_takes(self, seconds: float) -> None:
        (self.root / shop.SLOWLY).write_text(str(seconds))

    async def start(self) -> None:
        argv = [*LIGHT, "keep", "--root", str(self.root), "--port", str(self.port)]
        self._process = await parts.Process.start(argv, log=self.log, ready=f"{self.url}/health")

    async def switch(self, version: str) -> None:
        """Deploys a release: the link, then the restart."""
        new = self.root / "current.new"
        new.symlink_to(f"releases/{version}")
        new.replace(self.root / "current")
        await _run(*self.restart)

    async def version(self) -> str:
        return await asyncio.to_thread(shop.runs, self.port)

    def versions(self) -> list[str]:
        """Every version that was started; repeated starts of one version count once."""
        starts = (self.root / shop.STARTS).read_text().split()
        return [version for version, _ in itertools.groupby(starts)]

    async def end(self) -> None:
        if self._process:
            await self._process.terminate()


class ResponderProcess:
    """One replica. Its log spans all its starts."""

    def __init__(self, directory: Path, name: str, config: Mapping[str, Any]) -> None:
        self.name = name
        self.port = parts.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.file = directory / f"{name}.yml"
        self.log = directory / f"{name}.log"
        self.config = {**config, "web": {"listen": f"127.0.0.1:{self.port}"}, "log": {"style": "json"}}
        self.process: parts.Process | None = None
        self.write(self.config)

    def write(self, config: Mapping[str, Any]) -> None:
        self.file.write_text(yaml.safe_dump(dict(config), sort_keys=False))

    async def start(self, *, wait: bool = True) -> None:
        """Without waiting, it may be killed during its start."""

        async def at_once() -> bool:
            return True

        self.process = await parts.Process.start(
            [*RESPONDER, "serve", "--config", str(self.file)],
            log=self.log,
            ready=f"{self.url}/-/ready" if wait else at_once,
            cwd=REPOSITORY,
        )

    async def ready(self) -> bool:
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            return (await self.get("/-/ready")).status == 200
        return False

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.running

    def signal(self, number: signal.Signals) -> None:
        if self.process is None:
            raise RuntimeError(f"{self.name} was never started")
        os.kill(self.process.pid, number)

    async def end(self, number: signal.Signals, within: float = 30.0) -> int:
        if self.process is None:
            raise RuntimeError(f"{self.name} was never started")
        return await self.process.end(number, within)

    async def get(self, path: str, **query: str) -> HttpResult:
        return await self._ask("GET", path, params=query)

    async def post(self, path: str, body: Any) -> HttpResult:
        return await self._ask("POST", path, json=body)

    async def _ask(self, method: str, path: str, **how: Any) -> HttpResult:
        # A new connection: a kept one would be closed after a kill.
        timeout = aiohttp.ClientTimeout(total=30)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.request(method, self.url + path, **how) as answer,
        ):
            text = await answer.text()
            return HttpResult(answer.status, json.loads(text) if text.startswith(("{", "[")) else text)

    async def command(self, *argv: str) -> CommandResult:
        """Runs a command as an engineer does on this host."""
        return await _run(*RESPONDER, *argv, "--config", str(self.file), cwd=REPOSITORY)

    def log_lines(self) -> list[dict[str, Any]]:
        """The log, line by line."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return [json.loads(line) for line in lines if line.startswith("{")]

    def complaints(self) -> list[str]:
        """Log lines that must never occur: bugs, caught or not."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return [line for line in text.splitlines() if "Traceback" in line or "never awaited" in line]


async def _run(*argv: str, cwd: Path | None = None) -> CommandResult:
    process = await asyncio.create_subprocess_exec(
        *argv, cwd=cwd, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    return CommandResult(process.returncode or 0, out.decode(), err.decode())


@dataclass
class Installation:
    """All processes of one scenario."""

    directory: Path
    shop: ShopProcess
    responders: dict[str, ResponderProcess]
    alertmanagers: list[parts.Alertmanager]
    prometheus: parts.Prometheus | None = None
    postgres: parts.Postgres | None = None
    starts_at: dict[frozenset[tuple[str, str]], datetime] = field(default_factory=dict)

    @property
    def responder(self) -> ResponderProcess:
        """A running replica; the first one if none runs."""
        return next((r for r in self.responders.values() if r.running), next(iter(self.responders.values())))

    async def executions(self) -> list[dict[str, Any]]:
        """Newest first, each with its events."""
        found = (await self.responder.get("/api/v1/executions")).body["executions"]
        return [(await self.responder.get(f"/api/v1/executions/{row['id']}")).body for row in found]

    def owner(self, execution: str) -> str:
        """The replica that executes it: the last one that logged one of its steps."""
        lines = [
            (line["at"], name)
            for name, responder in self.responders.items()
            for line in responder.log_lines()
            if line.get("execution") == execution and line["event"].startswith("rollback ")
        ]
        return max(lines)[1]

    async def deployed(self, version: str, *, ago: float = 0.0, good: bool = False) -> None:
        at = datetime.now(UTC) - timedelta(seconds=ago)
        payload = {"service": "shop", "version": version, "at": at.isoformat(), "status": "good" if good else None}
        answer = await self.responder.post(
            "/api/v1/deployments", {k: v for k, v in payload.items() if v is not None and v != ""}
        )
        if answer.status != 201:
            raise RuntimeError(f"{version} could not be reported: {answer}")

    async def alert(self, labels: Mapping[str, str], *, over: bool = False) -> None:
        """Sends alerts to every Alertmanager with the same time, as Prometheus does."""
        now = datetime.now(UTC)
        since = self.starts_at.setdefault(frozenset(labels.items()), now)
        alert = {"labels": dict(labels), "startsAt": since.isoformat(), "annotations": {"summary": "it is broken"}}
        if over:
            alert["endsAt"] = now.isoformat()
            del self.starts_at[frozenset(labels.items())]
        async with aiohttp.ClientSession() as session:
            for alertmanager in self.alertmanagers:
                async with session.post(f"{alertmanager.url}/api/v2/alerts", json=[alert]) as answer:
                    answer.raise_for_status()

    async def body(self, labels: Mapping[str, str]) -> dict[str, Any]:
        """The body that Alertmanager would send for these, silenced or not: replayed or late."""
        found = await parts.until(lambda: self.alertmanagers[0].alerts(**labels))
        fields = ("labels", "annotations", "startsAt", "generatorURL", "fingerprint")
        never = "0001-01-01T00:00:00Z"
        alerts = [{"status": "firing", **{n: a[n] for n in fields if n in a}, "endsAt": never} for a in found]
        return {"version": "4", "status": "firing", "receiver": "responder", "alerts": alerts, "truncatedAlerts": 0}


def _alertmanager_config(responders: Mapping[str, ResponderProcess]) -> str:
    hooks = [{"url": f"{r.url}/api/v1/alerts", "send_resolved": True} for r in responders.values()]
    # Each alert by itself, at once, and again every second, to test that repetitions have no effect.
    route = {
        "receiver": "responder",
        "group_by": ["..."],
        "group_wait": "0s",
        "group_interval": "1s",
        "repeat_interval": "1s",
    }
    return yaml.safe_dump({"route": route, "receivers": [{"name": "responder", "webhook_configs": hooks}]})


def _prometheus_config(port: int, alertmanagers: list[parts.Alertmanager]) -> str:
    peers = [alertmanager.url.removeprefix("http://") for alertmanager in alertmanagers]
    return yaml.safe_dump(
        {
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"},
            "scrape_configs": [{"job_name": "shop", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": peers}]}]},
        }
    )


@contextlib.asynccontextmanager
async def set_up(
    directory: Path,
    *,
    postgres: bool = False,
    replicas: int = 1,
    alertmanagers: int = 1,
    prometheus: bool = False,
    verify_for: str = "1s",
    verify_within: str = "20s",
    **policy: Any,
) -> AsyncIterator[Installation]:
    """A stage on which release 1 runs and is known good. On exit, all its processes are gone."""
    parts.need("prometheus-alertmanager", "prometheus", *(["postgres"] if postgres else []))
    async with contextlib.AsyncExitStack() as leaving:
        server = await leaving.enter_async_context(parts.postgres(directory)) if postgres else None
        state = await server.database("state") if server else f"sqlite://{directory / 'state.db'}"
        behind = ShopProcess(directory)
        leaving.push_async_callback(behind.end)
        await behind.start()
        watching, in_front = parts.free_port(), [parts.free_port() for _ in range(alertmanagers)]
        health: list[dict[str, Any]] = [{"http": f"{behind.url}/health"}]
        if prometheus:
            health.append({"promql": "shop_healthy", "at_least": 1})
        config = {
            "state": state,
            "prometheus": {"url": f"http://127.0.0.1:{watching}"},
            "alertmanager": {"urls": [f"http://127.0.0.1:{port}" for port in in_front]},
            "limits": {"lease": "2s"},
            "services": [
                {
                    "name": "shop",
                    "environment": "production",
                    "rollback": {
                        "strategy": "immediate",
                        "release": {"root": str(behind.root), "restart": behind.restart, "restart_within": "30s"},
                    },
                    "health_checks": health,
                }
            ],
            "policies": [
                {
                    "name": "shop-broken",
                    "match": ['alertname="ShopBroken"'],
                    "roll_back": ["shop"],
                    "mode": "auto",
                    "verify": {"for": verify_for, "within": verify_within},
                    **policy,
                }
            ],
        }
        responders = {name: ResponderProcess(directory, name, config) for name in "abc"[:replicas]}
        senders = []
        for n, port in enumerate(in_front):
            home = directory / f"alertmanager-{n}"
            home.mkdir()
            sender = parts.alertmanager(home, _alertmanager_config(responders), port=port)
            senders.append(await leaving.enter_async_context(sender))
        stage = Installation(directory, behind, responders, senders, postgres=server)
        leaving.push_async_callback(_end_all, responders)
        for responder in responders.values():
            await responder.start()
        # Without scrapes it still answers that it has no past data, which a rollback requires.
        watched = _prometheus_config(behind.port, senders) if prometheus else "{}"
        rules = {"shop.rules": RULES} if prometheus else {}
        stage.prometheus = await leaving.enter_async_context(
            parts.prometheus(directory, watched, rules=rules, port=watching)
        )
        await stage.deployed(GOOD, ago=60, good=True)
        yield stage


async def _end_all(responders: Mapping[str, ResponderProcess]) -> None:
    for responder in responders.values():
        if responder.running:
            await responder.end(signal.SIGKILL)  # it also ends paused processes

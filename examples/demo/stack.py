"""The parts of the demo: the shop, exporters, Prometheus, Alertmanager and the responder, on loopback only."""

from __future__ import annotations

import asyncio
import shutil
import string
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp

from examples.demo.process import Broken, Part, free_ports, run
from examples.shop import releases

SHOP = Path(releases.__file__).parent
CONFIG = Path(__file__).with_name("config")
KNOWN_WITHIN = 30.0
OURS = "Install it in the virtual environment: .venv/bin/pip install -e ."
HINTS = {
    "the shop": "It needs only Python 3.11 or newer.",
    "exporters": OURS,
    "the responder": OURS,
    "Alertmanager": "Version 0.25 or newer is needed; prometheus-alertmanager --version shows it.",
    "Prometheus": "Version 2.42 or newer is needed; prometheus --version shows it.",
}


@dataclass
class Stack:
    """The parts, their ports and directories."""

    directory: Path
    session: aiohttp.ClientSession
    prometheus: str
    alertmanager: str
    responder: str
    exporters: str
    shop: str
    program: dict[str, str]
    parts: list[Part] = field(default_factory=list, init=False)

    @property
    def root(self) -> Path:
        """The directory with the shop's releases and its `current`."""
        return self.directory / "shop"

    def must_run(self) -> None:
        """Raises Broken if a part has ended."""
        for part in self.parts:
            part.must_run()

    async def get(self, url: str, **query: str) -> Any:
        """Returns the JSON of a URL. Raises Broken, with the URL, if the request fails."""
        try:
            async with self.session.get(url, params=query) as answer:
                body = await answer.json()
        except (aiohttp.ClientError, TimeoutError, ValueError) as e:
            self.must_run()
            raise Broken(f"{url} failed: {e or type(e).__name__}") from None
        if answer.status != 200:
            raise Broken(f"{url} answered {answer.status}: {body}")
        return body

    async def query(self, promql: str) -> list[dict[str, Any]]:
        """Returns the result of a PromQL query."""
        body = await self.get(f"http://{self.prometheus}/api/v1/query", query=promql)
        found: list[dict[str, Any]] = body["data"]["result"]
        return found

    async def deploy(self, version: str, *more: str) -> None:
        """Runs the shop's deploy script."""
        await run([str(SHOP / "deploy"), str(self.root), f"http://{self.responder}", version, *more])


def programs() -> dict[str, str]:
    """Finds the programs. Raises Broken with every missing one."""
    alertmanager = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    found = {"prometheus": shutil.which("prometheus"), "prometheus-alertmanager": alertmanager}
    beside = Path(sys.executable).parent  # the commands of the virtual environment, active or not
    found |= {name: str(beside / name) if (beside / name).exists() else None for name in ("responder", "exporters")}
    ours = ("responder", "exporters")
    missing = [
        f"{name} is not installed. What to do: {OURS if name in ours else f'scripts/install-debian.sh {name}'}"
        for name, path in found.items()
        if path is None
    ]
    if missing:
        raise Broken("\n".join(missing))
    return {name: path for name, path in found.items() if path}


@asynccontextmanager
async def running(directory: Path, session: aiohttp.ClientSession) -> AsyncIterator[Stack]:
    """Starts every part, and stops and removes everything on exit."""
    program = programs()
    names = ("prometheus", "alertmanager", "responder", "exporters", "shop")
    address = {name: f"127.0.0.1:{port}" for name, port in zip(names, free_ports(len(names)), strict=True)}
    stack = Stack(directory, session, program=program, **address)
    releases.build(stack.root)
    supervisor = str(SHOP / "supervisor.py")
    _write_config(
        directory, **address, state=str(directory), root=str(stack.root), python=sys.executable, supervisor=supervisor
    )

    def start(name: str, *argv: str) -> Part:
        part = Part(name, argv, directory / f"{name.lower().replace(' ', '-')}.log", HINTS[name])
        stack.parts.append(part)
        return part

    try:
        port = stack.shop.rpartition(":")[2]
        shop = start("the shop", sys.executable, supervisor, "run", "--root", str(stack.root), "--port", port)
        exporters = start("exporters", program["exporters"], "serve", "--config", str(directory / "exporters.yml"))
        alertmanager = start(
            "Alertmanager",
            program["prometheus-alertmanager"],
            f"--config.file={directory / 'alertmanager.yml'}",
            f"--storage.path={directory / 'alertmanager'}",
            f"--web.listen-address={stack.alertmanager}",
            f"--web.external-url=http://{stack.alertmanager}",
            "--cluster.listen-address=",  # alone: no gossip, no second port
        )
        responder = start("the responder", program["responder"], "serve", "--config", str(directory / "responder.yml"))
        # Last, because it would look for the others before they run, and again only 15 s later.
        await exporters.ready(session, f"http://{stack.exporters}/-/ready")
        prometheus = start(
            "Prometheus",
            program["prometheus"],
            f"--config.file={directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={directory / 'prometheus'}",
            f"--web.listen-address={stack.prometheus}",
            f"--web.external-url=http://{stack.prometheus}",
            "--rules.alert.resend-delay=1s",
        )
        await shop.ready(session, f"http://{stack.shop}/health")
        await alertmanager.ready(session, f"http://{stack.alertmanager}/-/ready")
        await responder.ready(session, f"http://{stack.responder}/-/ready")
        await prometheus.ready(session, f"http://{stack.prometheus}/-/ready")
        yield stack
    finally:
        await asyncio.gather(*(part.end() for part in stack.parts))


async def connected(stack: Stack) -> None:
    """Returns once Prometheus has the shop's checks and its deployment, and has found Alertmanager."""
    until = monotonic() + KNOWN_WITHIN
    waits: list[tuple[str, str]] = [
        ("the check of the shop", 'min_over_time(probe_success{service="shop"}[3s]) == 1'),
        ("the shop's metrics", 'rate(http_requests_total{service="shop"}[5s]) > 0'),
        ("the deployment, from the responder", 'responder_deployment_timestamp_seconds{service="shop"}'),
    ]
    while monotonic() < until:
        stack.must_run()
        waits = [(what, promql) for what, promql in waits if not await stack.query(promql)]
        known = await stack.get(f"http://{stack.prometheus}/api/v1/alertmanagers")
        if not waits and known["data"]["activeAlertmanagers"]:
            return
        await asyncio.sleep(0.2)
    lacking = ", ".join(what for what, _ in waits) or "Alertmanager"
    raise Broken(f"After {KNOWN_WITHIN:g} s Prometheus still lacks: {lacking}.{stack.parts[-1].tail()}")


def _write_config(directory: Path, **values: str) -> None:
    for template in CONFIG.iterdir():
        text = template.read_text()
        # The rules are the same everywhere; their own `$labels` must stay.
        filled = text if template.name == "rules.yml" else string.Template(text).substitute(values)
        (directory / template.name).write_text(filled)

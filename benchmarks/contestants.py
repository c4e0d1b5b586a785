"""Who is measured: the responder, a FastAPI handler, and Debian's `webhook`, each set up as its own manual says."""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from benchmarks.processes import Server, free_port, program

HERE = Path(__file__).resolve().parents[1]
_NO_LIMITS = {"concurrent": 100, "rollbacks_per_hour": 100_000, "circuit_breaker": {"services": 10_000}}
_TELL = "from responder.cli import main; raise SystemExit(main())"


@dataclass(frozen=True)
class Site:
    """One round of one contestant: a directory, the services in it, and the servers around them."""

    directory: Path
    services: Sequence[str]
    alertmanager: str = "http://127.0.0.1:9"  # where nobody listens: for bodies that are refused before it is asked
    prometheus: str = "http://127.0.0.1:9"
    services_url: str = "http://127.0.0.1:9"  # serves the files of the services
    acts: bool = False  # whether the links of the services are switched, or nothing is done
    limits: Mapping[str, object] = field(default_factory=lambda: _NO_LIMITS)  # of the responder
    deployed_ago: timedelta = timedelta(minutes=2)

    def lay_out(self) -> None:
        """Two releases a service: the second one is live, and not healthy."""
        for service in self.services:
            for release in ("1", "2"):
                (self.root / service / "releases" / release).mkdir(parents=True)
            (self.root / service / "releases" / "1" / "healthy").write_text("yes")
            (self.root / service / "current").symlink_to("releases/2")

    @property
    def root(self) -> Path:
        return self.directory / "services"

    def live(self, service: str) -> str:
        return (self.root / service / "current").readlink().name


@dataclass(frozen=True)
class Contestant:
    """Somebody who takes Alertmanager's bodies."""

    name: str
    kind: Literal["responder", "fastapi", "webhook"]
    checkout: Path = field(default=HERE)  # whose responder it is

    @property
    def path(self) -> str:
        """Where bodies are posted."""
        return {"responder": "/api/v1/alerts", "fastapi": "/alerts", "webhook": "/hooks/alerts"}[self.kind]

    def journal(self, site: Site) -> Path:
        return site.directory / "state.db"

    def start(self, site: Site) -> Server:
        """Ready to be posted to; the responder has been told what is deployed as well."""
        server = getattr(self, f"_start_{self.kind}")(site)
        assert isinstance(server, Server)
        return server

    def _start_responder(self, site: Site) -> Server:
        port, config = free_port(), site.directory / "responder.yml"
        config.write_text(json.dumps(_config(site, port, self.journal(site))))
        server = Server.start(
            [sys.executable, "-c", _TELL, "serve", "--config", str(config)],
            port=port,
            ready="/-/ready",
            log=site.directory / "responder.log",
            cwd=self.checkout,
            env={"PYTHONPATH": str(self.checkout)},
        )
        for service in site.services:
            _deployed(server, service, "1", site.deployed_ago + timedelta(hours=1), status="good")
            _deployed(server, service, "2", site.deployed_ago)
        return server

    def _start_fastapi(self, site: Site) -> Server:
        port = free_port()
        argv = [sys.executable, "-m", "uvicorn", "benchmarks.fastapi_app:app", "--port", str(port)]
        return Server.start(
            [*argv, "--no-access-log", "--log-level", "warning"],
            port=port,
            ready="/ready",
            log=site.directory / "fastapi.log",
            cwd=HERE,
            env={"BENCH_ROOT": str(site.root) if site.acts else ""},
        )

    def _start_webhook(self, site: Site) -> Server:
        port, hooks, command = free_port(), site.directory / "hooks.json", site.directory / "switch.sh"
        command.write_text(f'#!/bin/sh\nexec ln -sfn releases/1 "{site.root}/$1/current"\n')
        command.chmod(0o755)
        hook: dict[str, object] = {"id": "alerts", "execute-command": "/bin/true", "response-message": "taken"}
        if site.acts:
            hook["execute-command"] = str(command)
            hook["pass-arguments-to-command"] = [{"source": "payload", "name": "alerts.0.labels.service"}]
        hooks.write_text(json.dumps([hook]))
        return Server.start(
            [program("webhook"), "-hooks", str(hooks), "-ip", "127.0.0.1", "-port", str(port)],
            port=port,
            ready="/",
            log=site.directory / "webhook.log",
            cwd=site.directory,
        )


def contestants(beside: Path | None) -> list[Contestant]:
    """All of them; with another checkout, its responder is measured beside ours in the same rounds."""
    ours = [Contestant("responder", "responder")]
    if beside is not None:
        ours.append(Contestant(f"responder in {beside.name}", "responder", beside.resolve()))
    return [*ours, Contestant("FastAPI handler", "fastapi"), Contestant("webhook", "webhook")]


def _config(site: Site, port: int, journal: Path) -> dict[str, object]:
    return {
        "state": f"sqlite:///{journal}",
        "prometheus": {"url": site.prometheus},
        "alertmanager": {"urls": [site.alertmanager]},
        "web": {"listen": f"127.0.0.1:{port}"},
        "limits": dict(site.limits),
        "services": [
            {
                "name": service,
                "environment": "production",
                "rollback": {"strategy": "immediate", "release": {"root": str(site.root / service)}},
                "health_checks": [{"http": f"{site.services_url}/{service}/current/healthy"}],
            }
            for service in site.services
        ],
        "policies": [
            {
                "name": "errors-after-deploy",
                "match": ['alertname="HighErrorRate"', 'environment="production"'],
                "roll_back": {"label": "service"},
                "mode": "auto",
                "deployed_within": "1h",
                "verify": {"for": "0s", "within": "10s"},
            }
        ],
    }


def _deployed(server: Server, service: str, version: str, ago: timedelta, **more: str) -> None:
    at = (datetime.now(UTC) - ago).isoformat()
    deployment = {"service": service, "environment": "production", "version": version, "at": at, **more}
    request = urllib.request.Request(
        f"{server.url}/api/v1/deployments", json.dumps(deployment).encode(), {"Content-Type": "application/json"}
    )
    urllib.request.urlopen(request).close()

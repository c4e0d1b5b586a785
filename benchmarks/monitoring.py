"""A real Alertmanager, in which alerts fire that it tells nobody of: the webhook is ours to send, and to time.
Beside it a real Prometheus that has no rules: it is asked since when they fire, and how it was before."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.bodies import alert
from benchmarks.processes import Server, Unready, free_port, program

_CONFIG = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"


@contextmanager
def alertmanager(directory: Path) -> Iterator[Server]:
    """Listens on a loopback port and is gone afterwards."""
    config, port = directory / "alertmanager.yml", free_port()
    config.write_text(_CONFIG)
    argv = [program("prometheus-alertmanager"), f"--config.file={config}", f"--storage.path={directory / 'data'}"]
    server = Server.start(
        [*argv, f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=", "--log.level=error"],
        port=port,
        ready="/-/ready",
        log=directory / "alertmanager.log",
        cwd=directory,
    )
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def prometheus(directory: Path) -> Iterator[Server]:
    """Listens on a loopback port and is gone afterwards."""
    config, port = directory / "prometheus.yml", free_port()
    config.write_text("scrape_configs: []\n")
    argv = [program("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={directory / 'tsdb'}"]
    server = Server.start(
        [*argv, f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"],
        port=port,
        ready="/-/ready",
        log=directory / "prometheus.log",
        cwd=directory,
    )
    try:
        yield server
    finally:
        server.stop()


def fire(server: Server, services: Sequence[str]) -> dict[str, dict[str, Any]]:
    """One alert a service, active in Alertmanager; returned as it goes into the webhook's body."""
    now = datetime.now(UTC)
    posted = [
        {
            **{key: alert(service, 0)[key] for key in ("labels", "annotations", "generatorURL")},
            "startsAt": now.isoformat(),
            "endsAt": (now + timedelta(hours=1)).isoformat(),
        }
        for service in services
    ]
    _call(f"{server.url}/api/v2/alerts", posted)
    end = time.monotonic() + 10
    while len(active := _call(f"{server.url}/api/v2/alerts?active=true")) < len(services):
        if time.monotonic() > end:
            raise Unready(f"Alertmanager has {len(active)} of {len(services)} alerts active")
        time.sleep(0.1)
    kept = ("labels", "annotations", "startsAt", "endsAt", "generatorURL", "fingerprint")
    return {a["labels"]["service"]: {"status": "firing", **{key: a[key] for key in kept}} for a in active}


def _call(url: str, data: Any = None) -> Any:
    body = None if data is None else json.dumps(data).encode()
    with urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": "application/json"})) as answer:
        text = answer.read()
    return json.loads(text) if text else None

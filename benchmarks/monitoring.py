"""The surroundings of the services, all real: Alertmanager, Prometheus, and nginx, which answers their health checks.

Alertmanager has firing alerts but no receiver: the benchmark sends the webhooks. Prometheus has no rules: it answers
when alerts began.
"""

from __future__ import annotations

import getpass
import json
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.bodies import alert
from benchmarks.contestants import Site
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


@contextmanager
def web_server(root: Path, directory: Path) -> Iterator[Server]:
    """Serves the files below `root`."""
    config, port = directory / "nginx.conf", free_port()
    config.write_text(
        f"user {getpass.getuser()}; daemon off; worker_processes 1; pid {directory}/nginx.pid;\n"
        f"events {{}}\nhttp {{ access_log off; server {{ listen 127.0.0.1:{port}; root {root};\n"
        "location = /-/ready { return 200; } } }\n"
    )
    argv = [program("nginx"), "-p", str(directory), "-c", str(config), "-e", str(directory / "nginx.log")]
    server = Server.start(argv, port=port, ready="/-/ready", log=directory / "nginx.out", cwd=directory)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def surrounded(names: Sequence[str], **more: Any) -> Iterator[tuple[Site, Server]]:
    """A site with these services, laid out between all of these servers, and the Alertmanager."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-site-") as name,
        alertmanager(Path(name)) as alert_server,
        prometheus(Path(name)) as metric_server,
        web_server(Path(name) / "services", Path(name)) as web,
    ):
        site = Site(
            Path(name),
            names,
            alertmanager=alert_server.url,
            prometheus=metric_server.url,
            services_url=web.url,
            **more,
        )
        site.lay_out()
        yield site, alert_server


def fire(server: Server, services: Sequence[str], instances: int = 1) -> dict[str, list[dict[str, Any]]]:
    """So many alerts of each service, active in Alertmanager; returned as they go into the webhook's body."""
    now = datetime.now(UTC)
    posted = [
        {
            **{key: alert(service, instance)[key] for key in ("labels", "annotations", "generatorURL")},
            "startsAt": now.isoformat(),
            "endsAt": (now + timedelta(hours=1)).isoformat(),
        }
        for service in services
        for instance in range(instances)
    ]
    _call(f"{server.url}/api/v2/alerts", posted)
    end = time.monotonic() + 30
    while len(active := _call(f"{server.url}/api/v2/alerts?active=true")) < len(posted):
        if time.monotonic() > end:
            raise Unready(f"Alertmanager has {len(active)} of {len(posted)} alerts active")
        time.sleep(0.1)
    kept = ("labels", "annotations", "startsAt", "endsAt", "generatorURL", "fingerprint")
    found: dict[str, list[dict[str, Any]]] = {}
    for a in active:
        of_service = found.setdefault(a["labels"]["service"], [])
        of_service.append({"status": "firing", **{key: a[key] for key in kept}})
    return found


def _call(url: str, data: Any = None) -> Any:
    body = None if data is None else json.dumps(data).encode()
    with urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": "application/json"})) as answer:
        text = answer.read()
    return json.loads(text) if text else None

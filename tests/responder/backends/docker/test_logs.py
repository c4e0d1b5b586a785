"""Logs and states of real containers are kept, running or stopped."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from responder.backends.connections import Connections
from responder.backends.docker.client import Docker, DockerSettings
from responder.evidence.collect import collect
from responder.evidence.settings import EvidenceSettings
from responder.evidence.store import store_of
from tests.engine import Engine
from tests.responder.evidence.conftest import a_case, unpacked


async def test_logs_of_running_and_stopped_containers_are_read(engine: Engine, docker: Docker, tmp_path: Path) -> None:
    labels = {"com.docker.compose.project": "shop", "com.docker.compose.service": "backend"}
    config = {
        "Image": "shop:1",
        "Labels": labels,
        "Entrypoint": [],
        "Cmd": ["/bin/busybox", "sh", "-c", "echo token=abc; exit 3"],
    }
    await docker.create("shop-backend-1", config)
    await docker.start("shop-backend-1")
    for _ in range(200):
        found = await docker.container("shop-backend-1")
        if found and found["State"]["Status"] == "exited":
            break
        await asyncio.sleep(0.1)
    settings = EvidenceSettings(base_directory=tmp_path / "evidence", within=60.0)
    connections = Connections({Docker: DockerSettings(host=engine.url)}.get)
    try:
        case = a_case(
            {"docker": {"project": "shop", "service": "backend"}, "within": "30s"},
            {"docker": {"container": "none"}, "within": "30s"},
            onset=datetime.now(UTC) - timedelta(minutes=1),
        )
        store = await store_of(settings, connections)
        manifest = await collect(case, settings=settings, store=store, connections=connections)
        inside = await unpacked(manifest, settings, connections)
    finally:
        await connections.close()
    (line,) = inside["docker-shop-backend-1.log"].decode().splitlines()
    assert line.endswith("Z token=[redacted]")
    (state,) = json.loads(inside["docker-containers.json"])
    assert (state["name"], state["state"]["ExitCode"]) == ("shop-backend-1", 3)
    assert {missing.origin: missing.reason for missing in manifest.missing} == {"docker none": "no such container"}

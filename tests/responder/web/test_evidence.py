"""Evidence can be listed and fetched by clients with the scope `read` only."""

from __future__ import annotations

import gzip
import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from responder.backends.connections import Connections
from responder.decisions.policy_set import PolicySet
from responder.evidence.collector import EvidenceCollector
from responder.evidence.settings import EvidenceSettings
from responder.journal import evidence
from responder.services import rollbacks
from tests.responder.evidence.conftest import sources
from tests.responder.examples import accepted, service
from tests.responder.web.conftest import ResponderServer


def guard() -> None:
    """The lease is valid."""


@pytest.fixture
async def kept(responder: ResponderServer, connections: Connections, tmp_path: Path) -> str:
    """Creates a rollback with evidence; returns its ID."""
    (tmp_path / "app.log").write_text("it said <b>this</b>\n")
    backend = service().model_copy(update={"logs": sources({"file": str(tmp_path / "app.log")})})
    settings = EvidenceSettings(base_directory=tmp_path / "evidence")
    responder.collector = EvidenceCollector(settings, responder.journal, PolicySet(services=(backend,)), connections)
    now = datetime.now(UTC)
    event = accepted(at=now, received_at=now, deployment_id="deploy-21", onset_at=now)
    execution = await responder.journal.transaction(rollbacks.accept, "r1", event)
    assert (await responder.collector.collect_for_rollback(execution, guard)).files
    return "r1"


async def test_it_is_listed(responder: ResponderServer, kept: str) -> None:
    status, body = await responder.get(f"/api/v1/executions/{kept}/evidence")
    assert status == 200
    assert (body["state"], body["execution"], body["service"], body["deployment_id"]) == (
        "kept", "r1", "backend", "deploy-21",
    )  # fmt: skip
    assert "app.log.gz" in [file["name"] for file in body["manifest"]["files"]]


async def test_a_file_is_served_as_stored_or_decompressed(responder: ResponderServer, kept: str) -> None:
    home = f"/api/v1/executions/{kept}/evidence"
    _, body = await responder.get(home)
    files = {file["name"]: file for file in body["manifest"]["files"]}
    async with responder.client.get(f"{home}/app.log.gz", auto_decompress=False) as response:
        data = await response.read()
    assert hashlib.sha256(data).hexdigest() == files["app.log.gz"]["sha256"]
    assert gzip.decompress(data) == b"it said <b>this</b>\n"
    async with responder.client.get(f"{home}/app.log") as response:
        assert (await response.text(), response.content_type) == ("it said <b>this</b>\n", "text/plain")
        assert "sandbox" in response.headers["Content-Security-Policy"]
        assert response.headers["X-Content-Type-Options"] == "nosniff"
    async with responder.client.get(f"{home}/manifest.json") as response:
        assert json.loads(await response.read()) == body["manifest"]


@pytest.mark.parametrize("name", ["none.log", "..%2F..%2Fmanifest.json", ".hidden", "%2Fetc%2Fpasswd", "begun.json"])
async def test_only_files_of_the_manifest_are_served(responder: ResponderServer, kept: str, name: str) -> None:
    status, body = await responder.get(f"/api/v1/executions/{kept}/evidence/{name}")
    assert (status, "the evidence of r1 has no file" in body["error"]) == (404, True)


async def test_missing_evidence_has_a_reason(responder: ResponderServer, kept: str, tmp_path: Path) -> None:
    home = f"/api/v1/executions/{kept}/evidence"
    assert await responder.get("/api/v1/executions/none/evidence") == (404, {"error": "evidence none does not exist"})
    collector = responder.collector
    assert collector

    responder.collector = None
    status, body = await responder.get(f"{home}/app.log.gz")
    assert (status, "the configured store is now nowhere" in body["error"]) == (404, True)

    elsewhere = EvidenceSettings(base_directory=tmp_path / "other")
    responder.collector = EvidenceCollector(elsewhere, responder.journal, PolicySet(), collector._connections)
    status, body = await responder.get(f"{home}/app.log.gz")
    assert (status, f"file://{tmp_path}/evidence" in body["error"]) == (404, True)

    responder.collector = collector
    next(tmp_path.rglob("app.log.gz")).unlink()
    status, body = await responder.get(f"{home}/app.log.gz")
    assert (status, " on this host; " in body["error"]) == (404, True)

    await responder.journal.transaction(evidence.mark_deleted, kept)
    status, body = await responder.get(f"{home}/app.log.gz")
    assert (status, "was deleted" in body["error"]) == (404, True)
    assert (await responder.get(home))[1]["state"] == "deleted"


async def test_a_decision_to_preserve_logs_also_has_evidence(responder: ResponderServer, kept: str) -> None:
    now = datetime.now(UTC)
    where = {"policy": "p", "service": "backend", "environment": "production", "deployment_id": ""}
    await responder.journal.transaction(evidence.request, "d1", **where, alerts=[], at=now)
    status, body = await responder.get("/api/v1/executions/d1/evidence")
    assert (status, body["state"], body["manifest"]) == (200, "requested", None)
    status, body = await responder.get("/api/v1/executions/d1/evidence/app.log.gz")
    assert (status, body["error"]) == (404, "the evidence of d1 is still being collected")
    more = {
        **where,
        "execution": None,
        "state": "failed",
        "at": now + timedelta(seconds=1),
        "problem": "the disk is full",
    }
    await responder.journal.transaction(evidence.record, "d1", **more)
    status, body = await responder.get("/api/v1/executions/d1/evidence/app.log.gz")
    assert (status, body["error"]) == (404, "the evidence of d1 could not be collected: the disk is full")

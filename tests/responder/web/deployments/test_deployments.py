"""Reports by senders that repeat what they see, such as GitOps controllers, and events of Flux."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from responder.services import registry
from tests.responder.examples import ago, deployment
from tests.responder.web.conftest import SECRETS, ResponderServer

START = datetime(2026, 11, 23, 9, tzinfo=UTC)


def at(minute: int) -> str:
    return (START + timedelta(minutes=minute)).isoformat()


async def running(responder: ResponderServer) -> list[str]:
    """All recorded versions, the running one first."""
    _, found = await responder.get("/api/v1/deployments?service=backend")
    return [recorded["version"] for recorded in found["deployments"]]


@pytest.mark.parametrize(
    ("reports", "statuses", "recorded"),
    [
        ([("1", 1), ("1", 2), ("1", 1)], [201, 200, 200], ["1"]),
        ([("1", 1), ("2", 2), ("1", 3)], [201, 201, 201], ["1", "2", "1"]),  # the first version came back
        ([("1", 1), ("2", 3), ("1", 2)], [201, 201, 200], ["2", "1"]),  # delivered late
        ([("1", None), ("1", None), ("2", None)], [201, 200, 201], ["2", "1"]),
    ],
)
async def test_only_a_changed_version_is_a_deployment(
    responder: ResponderServer, reports: list[tuple[str, int | None]], statuses: list[int], recorded: list[str]
) -> None:
    answers = []
    for version, minute in reports:
        body = {"service": "backend", "version": version, "if_changed": True, "at": at(minute) if minute else None}
        status, answer = await responder.post("/api/v1/deployments", body)
        answers.append(status)
        assert (answer["new"], answer["deployment"]["service"]) == (status == 201, "backend")
    assert (answers, await running(responder)) == (statuses, recorded)


async def test_a_late_report_does_not_undo_a_rollback(responder: ResponderServer) -> None:
    """Flux repeats an event of 2.1 until it is delivered; meanwhile the service runs 2.0 again."""
    await responder.good_then_new()
    restored = deployment(version="2.0", at=ago(5, datetime.now(UTC)), id="restored", rolled_back_by="x")
    await responder.journal.transaction(registry.record, restored)
    late = {"service": "backend", "version": "2.1", "if_changed": True}
    when = (datetime.now(UTC) - timedelta(seconds=30)).isoformat()
    assert (await responder.post("/api/v1/deployments", {**late, "at": when}))[0] == 200
    assert (await running(responder))[0] == "2.0"
    assert (await responder.post("/api/v1/deployments", late))[0] == 201, "later it is deployed again"


# --- Flux ---
HELM, KUSTOMIZE = "helm.toolkit.fluxcd.io", "kustomize.toolkit.fluxcd.io"
GIT = "main@sha1:731f7eaddfb6af01cb2173e18f0f75b0ba780ef1"


def event(kind: str = "HelmRelease", reason: str = "UpgradeSucceeded", minute: int = 0, **other: Any) -> dict[str, Any]:
    """As notification-controller 1.9 sends it."""
    group = HELM if kind == "HelmRelease" else KUSTOMIZE
    return {
        "involvedObject": {
            "kind": kind, "namespace": "shop", "name": "backend", "uid": "7d0cdc51-ddcf-4743-b223-83ca5c699632",
            "apiVersion": f"{group}/v1", "resourceVersion": "4711",
        },
        "severity": "info",
        "timestamp": (START + timedelta(minutes=minute)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "message": "Helm upgrade succeeded for release shop/backend.v4 with chart backend@6.1.0",
        "reason": reason,
        "metadata": {"revision": "6.1.0", "app-version": "1.4", "token": "sha256:ab", "oci-digest": "sha256:cd"},
        "reportingController": "helm-controller",
        "reportingInstance": "helm-controller-7c7b47f5f-8bhrp",
        **other,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("sent", "version"),
    [
        (event(), "1.4"),
        (event(reason="InstallSucceeded"), "1.4"),
        (event(reason="RollbackSucceeded"), "1.4"),
        (event(metadata={"revision": "6.1.0"}), "6.1.0"),
        (event(metadata={"revision": "6.1.0", "app-version": "1.4", "version": "1.5-fix"}), "1.5-fix"),
        (event("Kustomization", "ReconciliationSucceeded", metadata={"revision": GIT}), GIT.partition("sha1:")[2]),
        (event("Kustomization", "Progressing", metadata={"revision": "v7@sha256:" + "ab" * 32}), "v7"),
        # Older versions of Flux keep the prefixes.
        (event(metadata={f"{HELM}/revision": "6.1.0", "event.toolkit.fluxcd.io/version": "9"}), "9"),
        (event(metadata={"revision": "1", "service": "backend", "environment": "production"},
               involvedObject={"kind": "HelmRelease", "name": "shop-backend"}), "1"),
    ],
)  # fmt: skip
async def test_flux_reports_a_version_once(responder: ResponderServer, sent: dict[str, Any], version: str) -> None:
    assert [(await responder.post("/api/v1/deployments/flux", sent))[0] for _ in range(2)] == [201, 200]
    later = {**sent, "timestamp": "2026-11-23T09:10:00Z", "message": "Reconciliation finished in 1s"}
    assert (await responder.post("/api/v1/deployments/flux", later))[0] == 200, "repeated at every interval"
    _, found = await responder.get("/api/v1/deployments?service=backend")
    (recorded,) = found["deployments"]
    assert (recorded["version"], recorded["at"]) == (version, "2026-11-23T09:00:00+00:00")
    assert recorded["provenance"].startswith(f"Flux {sent['involvedObject']['kind']} ")


@pytest.mark.parametrize(
    "sent",
    [
        event(reason="UpgradeFailed", severity="error"),
        event(severity="error"),
        event(reason="TestSucceeded"),
        event(reason="UninstallSucceeded"),
        event("GitRepository", "NewArtifact"),
        event("Kustomization", "DependencyNotReady"),
        event(metadata={}),
    ],
)
async def test_other_events_of_flux_are_ignored(responder: ResponderServer, sent: dict[str, Any]) -> None:
    status, answer = await responder.post("/api/v1/deployments/flux", sent)
    assert (status, bool(answer["ignored"]), await running(responder)) == (200, True, [])


@pytest.mark.parametrize(
    ("sent", "status", "where"),
    [
        (event(involvedObject={"kind": "HelmRelease", "name": "other"}), 404, ""),
        (event(metadata={"revision": "1", "version": "a/b"}), 400, "metadata.version"),
        (event(metadata={"revision": "1", "environment": "nowhere"}), 404, ""),
        (event(metadata={"revision": 7}), 400, "metadata.revision"),
        ({"deployed": "1"}, 400, "involvedObject"),
    ],
)
async def test_a_wrong_event_of_flux_names_its_error(
    responder: ResponderServer, sent: dict[str, Any], status: int, where: str
) -> None:
    found = await responder.post("/api/v1/deployments/flux", sent)
    assert (found[0], found[1].get("where", "")) == (status, where), found


@pytest.mark.parametrize(("scope", "status"), [("deploy", 201), ("operate", 201), ("read", 403), ("alerts", 403)])
async def test_flux_needs_the_scope_deploy(guarded_responder: ResponderServer, scope: str, status: int) -> None:
    headers = {"Authorization": f"Bearer {SECRETS[scope]}"}
    assert (await guarded_responder.post("/api/v1/deployments/flux", event(), headers=headers))[0] == status

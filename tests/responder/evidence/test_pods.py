"""Logs of pods, also from before their restarts, their states, and their events."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from responder.backends.connections import Connections
from responder.backends.kubernetes.client import Kubernetes, KubernetesSettings
from responder.evidence.manifest import EvidenceManifest
from responder.evidence.settings import EvidenceSettings
from tests.apiserver import Cluster
from tests.apiserver.manifests import deployment
from tests.responder.evidence.conftest import a_case, kept, unpacked

TOKEN = "a-token-of-the-responder"
LOGS = {"kubernetes": {"namespace": "shop", "selector": "app=backend"}}


@pytest.fixture
async def cluster(tmp_path: Path, client_settings: dict[type, Any]) -> AsyncIterator[Cluster]:
    cluster = Cluster(clock=lambda: 0.0)
    cluster.apply(deployment("backend", "shop:1", replicas=2))
    cluster.apply(deployment("other", "shop:1", replicas=1))
    cluster.controllers = False  # from here on the tests control the time
    for pod in cluster.all("Pod"):
        key = ("shop", pod["metadata"]["name"], pod["spec"]["containers"][0]["name"])
        cluster.logs[key] = [("2026-11-23T21:00:00Z", "long ago"), ("2026-11-23T21:58:00Z", f"I am {key[1]}")]
    cluster.token = TOKEN
    async with cluster.up() as url:
        file = tmp_path / "config"
        file.write_text(json.dumps(cluster.kubeconfig(url)))
        client_settings[Kubernetes] = KubernetesSettings(kubeconfig=file, timeout=5.0)
        yield cluster


def pods(cluster: Cluster) -> list[dict[str, Any]]:
    return sorted(
        (p for p in cluster.all("Pod") if p["metadata"]["labels"]["app"] == "backend"),
        key=lambda pod: str(pod["metadata"]["name"]),
    )


def crashed(cluster: Cluster, pod: dict[str, Any]) -> str:
    (status,) = pod["status"]["containerStatuses"]
    status["restartCount"] = 3
    status["lastState"] = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    key = ("shop", pod["metadata"]["name"], status["name"])
    cluster.previous_logs[key] = [("2026-11-23T20:59:59Z", "out of memory")]
    return str(pod["metadata"]["name"])


def event(name: str, about: tuple[str, str], message: str, **more: Any) -> dict[str, Any]:
    kind, of = about
    return {
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": name, "namespace": "shop"}, "type": "Warning",
        "reason": "BackOff", "involvedObject": {"kind": kind, "name": of, "namespace": "shop"}, "message": message,
        **more,
    }  # fmt: skip


def gone(manifest: EvidenceManifest) -> dict[str, str]:
    return {gap.origin: gap.reason for gap in manifest.missing}


async def test_logs_of_each_container_are_read_since_the_start_time(
    cluster: Cluster, directory: EvidenceSettings, around: Connections
) -> None:
    manifest = await kept(a_case(LOGS), directory, around)
    inside = await unpacked(manifest, directory, around)
    for pod in pods(cluster):
        name, container = pod["metadata"]["name"], pod["spec"]["containers"][0]["name"]
        assert inside[f"pod-{name}-{container}.log"].decode() == f"2026-11-23T21:58:00Z I am {name}\n"
    assert not [name for name in inside if "other" in name]
    assert gone(manifest) == {"the events of app=backend": "the log is empty"}


async def test_logs_from_before_a_restart_are_kept(
    cluster: Cluster, directory: EvidenceSettings, around: Connections
) -> None:
    first, second = pods(cluster)
    name = crashed(cluster, second)
    manifest = await kept(a_case(LOGS), directory, around)
    inside = await unpacked(manifest, directory, around)
    (before,) = [text for file, text in inside.items() if file.endswith("-previous.log")]
    assert before == b"2026-11-23T20:59:59Z out of memory\n"
    states = json.loads(inside["kubernetes-pods.json"])
    assert [state["name"] for state in states] == [name, first["metadata"]["name"]], "the worst first"
    assert states[0]["status"]["containerStatuses"][0]["lastState"]["terminated"]["reason"] == "OOMKilled"
    assert "env" not in inside["kubernetes-pods.json"].decode()
    none = {"kubernetes": {**LOGS["kubernetes"], "previous": False, "events": False}}
    without = await kept(a_case(none, id="another"), directory, around)
    assert not [file.name for file in without.files if "previous" in file.name or "events" in file.name]


async def test_a_missing_previous_container_is_a_gap(
    cluster: Cluster, directory: EvidenceSettings, around: Connections
) -> None:
    crashed(cluster, pods(cluster)[0])
    cluster.previous_logs.clear()
    manifest = await kept(a_case(LOGS), directory, around)
    (reason,) = [reason for origin, reason in gone(manifest).items() if "before its restart" in origin]
    assert "previous terminated container" in reason
    assert sum(file.name.startswith("pod-") for file in manifest.files) == 2


async def test_events_of_pods_and_their_owners_are_kept(
    cluster: Cluster, directory: EvidenceSettings, around: Connections
) -> None:
    pod = pods(cluster)[0]
    set_of = pod["metadata"]["ownerReferences"][0]["name"]
    for n in range(600):  # more than one page
        cluster.put(event(f"noise-{n}", ("Pod", "other-1"), "noise"))
    cluster.put(event("c", ("Deployment", "backend"), "scaled", lastTimestamp="2026-11-23T21:57:00Z"))
    cluster.put(event("a", ("Pod", pod["metadata"]["name"]), "Back-off\nrestarting", count=7,
                      lastTimestamp="2026-11-23T21:59:00Z"))  # fmt: skip
    cluster.put(event("b", ("ReplicaSet", set_of), "created", eventTime="2026-11-23T21:58:00Z"))
    manifest = await kept(a_case(LOGS), directory, around)
    lines = (await unpacked(manifest, directory, around))["kubernetes-events.log"].decode().splitlines()
    assert lines == [
        "2026-11-23T21:57:00Z Warning BackOff Deployment/backend: scaled",
        f"2026-11-23T21:58:00Z Warning BackOff ReplicaSet/{set_of}: created",
        f"2026-11-23T21:59:00Z Warning BackOff Pod/{pod['metadata']['name']}: Back-off restarting (x7)",
    ]


@pytest.mark.parametrize(
    ("right", "lost"),
    [
        (("get", "pods/log"), 2),
        (("list", "events"), 1),
        (("list", "pods"), 1),
    ],
)
async def test_a_missing_permission_affects_only_its_own_part(
    right: tuple[str, str], lost: int, cluster: Cluster, directory: EvidenceSettings, around: Connections
) -> None:
    cluster.put(event("a", ("Deployment", "backend"), "scaled"))
    cluster.forbidden.add(right)
    manifest = await kept(a_case(LOGS), directory, around)
    assert len(manifest.missing) == lost
    assert all("is forbidden" in reason for reason in gone(manifest).values())


async def test_the_most_restarted_pods_are_kept_first(
    cluster: Cluster, directory: EvidenceSettings, around: Connections
) -> None:
    cluster.controllers, cluster.token = True, ""
    cluster.apply(deployment("backend", "shop:1", replicas=40))
    cluster.controllers, cluster.token = False, TOKEN
    for pod in pods(cluster):
        key = ("shop", pod["metadata"]["name"], pod["spec"]["containers"][0]["name"])
        cluster.logs.setdefault(key, [("2026-11-23T21:59:00Z", "x")])
    name = crashed(cluster, pods(cluster)[39])
    manifest = await kept(a_case(LOGS), directory, around)
    assert any(name in file.name and "previous" in file.name for file in manifest.files)
    assert "12 of its 43 logs: at most 30 are kept" in gone(manifest).values() or "13 of its 43 logs: at most 30 are kept" in gone(manifest).values()  # fmt: skip  # noqa: E501

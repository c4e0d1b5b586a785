"""`responder init --from-kubernetes` writes values that the chart accepts, for the workloads of a namespace."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.aio.config import kube_config

from responder.app.loading import parse
from responder.app.setup.questions import Answers, setup_of, unattended
from responder.errors import Invalid
from tests.apiserver import Cluster
from tests.apiserver.manifests import deployment, service, statefulset, workload
from tests.deploy.rendering import charted, of

CHECKS = ["PromqlCheck", "HttpCheck", "PodsCheck"]
NAMES = ("ALERTS_TOKEN", "SCRAPE_TOKEN", "DEPLOY_TOKEN", "OPERATOR_TOKEN")
TOKENS = {name: f"the {name} of this test" for name in NAMES}


def probed(manifest: dict[str, Any], port: Any, path: str = "/health") -> dict[str, Any]:
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    container["ports"] = [{"name": "web", "containerPort": 8080}]
    container["readinessProbe"] = {"httpGet": {"path": path, "port": port}}
    return manifest


async def made(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **answers: Any) -> dict[str, str]:
    async with cluster.up() as url:
        (tmp_path / "config").write_text(json.dumps(cluster.kubeconfig(url)))
        # The SDK reads $KUBECONFIG when it is imported.
        monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "config"))
        setup, found = await setup_of(Answers(tmp_path / "made", from_kubernetes="shop", **answers), unattended)
    return setup.files() | found.left_out


async def test_the_chart_accepts_the_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster()
    cluster.apply(probed(deployment("backend", "shop:1"), "web"))
    front = service("front", {"app": "backend"})
    front["spec"]["ports"] = [{"port": 80, "targetPort": 8080}]
    cluster.apply(front)
    cluster.apply(statefulset("carts", "carts:1", 2))
    cluster.apply(workload("DaemonSet", "agent", "agent:1"))
    files = await made(cluster, tmp_path, monkeypatch)
    values = yaml.safe_load(files["values.yaml"])
    config = next(m for m in of("ConfigMap", charted(values)) if "responder.yml" in m["data"])["data"]["responder.yml"]
    services = {service.name: service for service in parse(config, "responder.yml", TOKENS).services}
    assert sorted(services) == ["agent", "backend", "carts"]
    assert [type(check).__name__ for check in services["backend"].health_checks] == CHECKS
    (check,) = values["exporters"]["config"]["checks"]
    assert (check["service"], check["url"]) == ("backend", "http://front.shop:80/health")
    assert [role["metadata"]["namespace"] for role in of("Role", charted(values))] == ["shop"]
    assert "kubectl -n rollback-responder create secret generic responder" in files["next-steps.md"]


async def test_a_workload_that_is_controlled_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster()
    cluster.apply(deployment("backend", "shop:1"))
    owned = deployment("owned", "shop:1")
    owner = {"apiVersion": "example.com/v1", "kind": "App", "name": "app", "uid": "1", "controller": True}
    owned["metadata"]["ownerReferences"] = [owner]
    cluster.apply(owned)
    assert (await made(cluster, tmp_path, monkeypatch))["owned"] == "App app controls it: roll that back"
    with pytest.raises(Invalid, match="--service owned: App app controls it"):
        await made(cluster, tmp_path, monkeypatch, services=("owned",))


async def test_an_empty_namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Invalid, match="--from-kubernetes shop: contains no service that can be rolled back"):
        await made(Cluster(), tmp_path, monkeypatch)

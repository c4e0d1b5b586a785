"""The manifests render, fit together, and grant exactly the permissions that rollbacks use."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from responder.backends.kubernetes.client import Kubernetes
from responder.backends.kubernetes.pod_logs import PodLogs
from responder.cli.checking.live import targets_of
from responder.errors import StepFailed
from responder.rollback.events import Outcome
from tests.apiserver import Cluster, Image
from tests.apiserver.client import InProcess
from tests.apiserver.manifests import autoscaler, deployment, service, statefulset, workload
from tests.deploy.rendering import KUBERNETES, kustomized, of, read, with_postgres
from tests.responder.harness import Rollback


def test_manifests_render() -> None:
    kinds = sorted(manifest["kind"] for manifest in kustomized())
    assert kinds == sorted([
        "Namespace", "ServiceAccount", "Deployment", "Deployment", "Service", "Service", "PersistentVolumeClaim",
        "ConfigMap", "ConfigMap", "NetworkPolicy", "NetworkPolicy", "ClusterRole", "ClusterRoleBinding",
    ])  # fmt: skip
    kinds = [manifest["kind"] for manifest in kustomized(KUBERNETES / "rights")]
    assert kinds == ["Role", "RoleBinding", "NetworkPolicy"]


def test_only_one_process_uses_sqlite(tmp_path: Path) -> None:
    """The journal outlives the pod. Two replicas share PostgreSQL instead, and a drain leaves one of them."""
    manifests = {name: kustomized(directory) for name, directory in
                 {"sqlite": KUBERNETES, "postgres": with_postgres(tmp_path)}.items()}  # fmt: skip
    for name, replicas, strategy, held in (
        ("sqlite", 1, "Recreate", ["responder"]),
        ("postgres", 2, "RollingUpdate", []),
    ):
        (workload,) = [d for d in of("Deployment", manifests[name]) if d["metadata"]["name"] == "responder"]
        spec = workload["spec"]
        assert (spec["replicas"], spec["strategy"]["type"]) == (replicas, strategy)
        volumes = [
            v["persistentVolumeClaim"]["claimName"]
            for v in spec["template"]["spec"]["volumes"]
            if "persistentVolumeClaim" in v
        ]
        assert volumes == held == [claim["metadata"]["name"] for claim in of("PersistentVolumeClaim", manifests[name])]
        assert len(of("PodDisruptionBudget", manifests[name])) == (replicas > 1)


def test_the_overlay_of_the_documentation_renders(tmp_path: Path) -> None:
    text = (KUBERNETES.parents[1] / "docs" / "how-to" / "kubernetes.md").read_text()
    (overlay,) = re.findall(r"```yaml\n(resources:.*?)```", text, flags=re.DOTALL)
    shutil.copytree(KUBERNETES, tmp_path / "rollback-responder" / "deploy" / "kubernetes")
    (tmp_path / "kustomization.yaml").write_text(overlay.replace("# components", "components"))
    for name in ("responder.yml", "exporters.yml"):
        (tmp_path / name).write_text("own: file")
    manifests = kustomized(tmp_path)
    assert [m["data"] for m in of("ConfigMap", manifests)] == [
        {"exporters.yml": "own: file"},
        {"responder.yml": "own: file"},
    ]
    images = [m["spec"]["template"]["spec"]["containers"][0]["image"] for m in of("Deployment", manifests)]
    assert images == 2 * ["registry.example/rollback-responder:0.1.0"]
    assert len(of("PodDisruptionBudget", manifests)) == 1


def test_selectors_match() -> None:
    manifests = [*kustomized(), *read("monitoring/servicemonitors.yaml"), *read("postgres/disruption.yaml")]
    labels = [manifest["spec"]["template"]["metadata"]["labels"] for manifest in of("Deployment", manifests)]
    for manifest in of("Service", manifests):
        assert manifest["spec"]["selector"] in labels
    for manifest in of("PodDisruptionBudget", manifests):
        assert manifest["spec"]["selector"]["matchLabels"] in labels
    for manifest in of("NetworkPolicy", manifests):
        assert manifest["spec"]["podSelector"]["matchLabels"] in labels
    services = {tuple(manifest["metadata"]["labels"].items()): manifest for manifest in of("Service", manifests)}
    for manifest in of("ServiceMonitor", manifests):
        found = services[tuple(manifest["spec"]["selector"]["matchLabels"].items())]
        assert {e["port"] for e in manifest["spec"]["endpoints"]} <= {p["name"] for p in found["spec"]["ports"]}
    accounts = {manifest["metadata"]["name"] for manifest in of("ServiceAccount", manifests)}
    for binding in (*of("RoleBinding", read("rights/role.yaml")), *of("ClusterRoleBinding", manifests)):
        assert {subject["name"] for subject in binding["subjects"]} == accounts
        assert {subject["namespace"] for subject in binding["subjects"]} == {
            manifest["metadata"]["name"] for manifest in of("Namespace", manifests)
        }


def test_pods_are_confined() -> None:
    for manifest in of("Deployment", kustomized()):
        pod = manifest["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        for container in pod["containers"]:
            confined = container["securityContext"]
            assert confined["readOnlyRootFilesystem"]
            assert not confined["allowPrivilegeEscalation"]
            assert confined["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]
            assert container["image"] == "rollback-responder:0.1.0"


def test_probes_use_existing_endpoints() -> None:
    known = {"/-/ready", "/-/healthy"}
    for manifest in of("Deployment", kustomized()):
        for container in manifest["spec"]["template"]["spec"]["containers"]:
            for probe in ("readinessProbe", "livenessProbe"):
                if probe in container:
                    assert container[probe]["httpGet"]["path"] in known


# --- permissions ---


def rights() -> set[tuple[str, str]]:
    roles = [*of("Role", read("rights/role.yaml")), *of("ClusterRole", read("nodes.yaml"))]
    return {
        (verb, f"{group}/{resource}".lstrip("/"))
        for role in roles
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


class Guarded(InProcess):
    """The account has the permissions of the manifest and no others."""

    def __init__(self, cluster: Cluster, allowed: set[tuple[str, str]]) -> None:
        super().__init__(cluster)
        self._allowed = allowed

    async def _send(self, method: str, path: str, query: Any, body: Any, content_type: str) -> Any:
        if path.endswith("/selfsubjectaccessreviews"):
            right = body["spec"]["resourceAttributes"]
            parts = (right["group"], right["resource"], right.get("subresource"))
            allowed = (right["verb"], "/".join(filter(None, parts))) in self._allowed
            return 201, {**body, "status": {"allowed": allowed}}
        before = len(self.cluster.requests)
        answer = await super()._send(method, path, query, body, content_type)
        rights = set(self.cluster.requests[before:])
        if ("get", "secrets") in rights:
            return 403, {"message": "forbidden"}
        assert rights <= self._allowed, f"{rights - self._allowed} is not in deploy/kubernetes/rights"
        return answer


def two(cluster: Cluster, make: Callable[..., dict[str, Any]], name: str, **more: Any) -> None:
    for version in "12":
        workload = make(name, f"shop:{version}", **more)
        pods = workload["spec"]["template"]["spec"]
        pods["containers"][0]["envFrom"] = [{"configMapRef": {"name": "settings"}}, {"secretRef": {"name": "keys"}}]
        pods["serviceAccountName"] = "shop"
        pods["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
        cluster.apply(workload)


async def _of_keeping_logs(cluster: Cluster, kube: Kubernetes) -> set[tuple[str, str]]:
    """Reads all logs of the pods in `logs`, also from before a restart."""
    for pod in cluster.all("Pod"):
        for status in pod["status"].get("containerStatuses", ()):
            status["restartCount"] = 1
    cluster.controllers = False
    source = PodLogs.model_validate({"kubernetes": {"namespace": "shop", "selector": "app=backend"}})
    before = len(cluster.requests)
    for log in await source.logs(kube, datetime.now(UTC)):
        with contextlib.suppress(StepFailed):  # no logs from before the restart
            async with contextlib.aclosing(log.chunks()) as chunks:
                async for _ in chunks:
                    pass
    return set(cluster.requests[before:])


def daemonset(name: str, image: str, **more: Any) -> dict[str, Any]:
    return workload("DaemonSet", name, image, **more)


@pytest.fixture
def cluster() -> Cluster:
    clock = [0.0]
    cluster = Cluster(clock=lambda: clock[0])
    cluster.installed |= {
        "argoproj.io",
        "flagger.app",
        "helm.toolkit.fluxcd.io",
        "keda.sh",
    }  # otherwise their kinds are not queried
    for kind in ("ConfigMap", "Secret", "ServiceAccount", "PersistentVolumeClaim"):
        for name in ("settings", "keys", "shop", "data"):
            cluster.put({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "shop"}})
    two(cluster, deployment, "backend", replicas=2)
    for color in ("blue", "green"):
        two(cluster, deployment, f"c-{color}", replicas=2, labels={"app": "c", "color": color})
    cluster.apply(service("c", {"app": "c", "color": "green"}))
    cluster.apply(autoscaler("c-blue", most=4))
    cluster.images["shop:2"] = Image(starts="crashes")
    two(cluster, statefulset, "web", replicas=2)
    two(cluster, daemonset, "agent")
    return cluster


def way(strategy: str, **where: str) -> dict[str, Any]:
    return {"strategy": strategy, "kubernetes": {"namespace": "shop", **where}}


WAYS: list[tuple[dict[str, Any], str]] = [
    (way("rolling", deployment="backend"), "backend"),
    (way("immediate", deployment="backend"), "backend"),
    (way("rolling", statefulset="web"), "web"),
    (way("rolling", daemonset="agent"), "agent"),
    (
        {
            "strategy": "blue_green",
            "pointer": {"namespace": "shop", "service": "c"},
            "colors": {c: {"kubernetes": {"namespace": "shop", "deployment": f"c-{c}"}} for c in ("blue", "green")},
            "failed_replicas": 1,
        },
        "c",
    ),
]


async def test_each_strategy_needs_exactly_these_permissions(cluster: Cluster) -> None:
    allowed, used = rights(), set()
    for strategy, app in WAYS:
        kube = Guarded(cluster, allowed)
        healthy = [{"pods": {"namespace": "shop", "labels": {"app": app}}}]
        if app == "c":
            for pod in [p for p in cluster.all("Pod") if p["metadata"]["labels"].get("color") == "green"]:
                cluster.drop(pod)  # its failed pods would fail the check of the whole service
            healthy[0]["pods"]["labels"]["color"] = "blue"  # type: ignore[index]
        if strategy["strategy"] == "immediate":
            two(cluster, deployment, "backend", replicas=2)
        before = len(cluster.requests)
        clock: Any = cluster.clock
        cells = clock.__closure__[0].cell_contents

        def wait(seconds: float, cells: list[float] = cells) -> None:
            cells[0] += seconds

        harness = Rollback(strategy, {Kubernetes: kube}, health_checks=healthy, wait=wait)
        targets = targets_of(("services", 0), harness.service, harness.gateway)
        found = [str(problem) for target in targets for problem in await target.ask()]
        assert not [problem for problem in found if "cannot" in problem]
        ended = await harness.run()
        expected: Outcome = "succeeded"
        assert ended.outcome == expected, (strategy, ended.reason)
        used |= set(cluster.requests[before:])
    used |= await _of_keeping_logs(cluster, Guarded(cluster, allowed))
    assert allowed <= used, f"never used: {sorted(allowed - used)}"

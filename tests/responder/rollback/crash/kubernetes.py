"""Stages in a cluster: each kind of workload, paused or owned by a controller, and two colors behind a Service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from responder.backends.kubernetes.client import Kubernetes
from tests.apiserver import Cluster
from tests.apiserver.client import InProcess
from tests.apiserver.manifests import autoscaler, deployment, service, statefulset, workload
from tests.responder.backends.kubernetes.whole_objects import BOOKKEEPING, NOTES
from tests.responder.backends.kubernetes.whole_objects import state as everything
from tests.responder.rollback.crash.clusters import TRAFFIC, catch_up, edit, meddle, state, written
from tests.responder.rollback.crash.stages import Everything, RollbackScenario, shop

_HEALTHY = [{"http": "http://shop/health"}]


class _Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += max(seconds, 0.1)


def _stage(
    cluster: Cluster,
    clock: _Clock,
    rollback: dict[str, Any],
    rolled_back: dict[str, Any],
    *changes: str,
    stays: dict[str, str] | None = None,
) -> RollbackScenario:
    def wait(seconds: float) -> None:
        clock.wait(seconds)
        catch_up(cluster)

    last: dict[int, Any] = {}

    def written_by_now() -> Any:
        if cluster.version not in last:  # called before and after every call, most of which only read
            last.clear()
            last[cluster.version] = written(cluster)
        return last[cluster.version]

    return shop(
        rollback,
        _HEALTHY,
        outside=lambda: state(cluster),
        rolled_back=rolled_back,
        everything=Everything(lambda: everything(cluster), changes, {**BOOKKEEPING, **NOTES}, stays or {}),
        stranger=lambda resource: meddle(cluster, resource),
        clients={Kubernetes: InProcess(cluster)},
        written=written_by_now,
        wait=wait,
    )


def _cluster() -> tuple[Cluster, _Clock]:
    clock = _Clock()
    return Cluster(clock=clock), clock


def rolling_deployment(directory: Path) -> RollbackScenario:
    cluster, clock = _cluster()
    for version in ("1", "2"):
        cluster.apply(deployment("backend", f"shop:{version}", replicas=3))
    rollback = {
        "strategy": "rolling",
        "kubernetes": {"namespace": "shop", "deployment": "backend"},
        "batch_size": 2,
        "batch_delay": "2s",
        "batch_healthy": [{"http": "http://batch/"}],
    }
    return _stage(cluster, clock, rollback, {"backend": ("shop:1", 3)}, "/Deployment backend/spec/template/*/image")


def rolling_statefulset(directory: Path) -> RollbackScenario:
    cluster, clock = _cluster()
    for version in ("1", "2"):
        cluster.apply(statefulset("web", f"shop:{version}", replicas=2))
    rollback = {
        "strategy": "rolling",
        "kubernetes": {"namespace": "shop", "statefulset": "web", "within": "9s"},
        "batch_delay": "2s",
        "batch_healthy": [{"http": "http://batch/"}],
    }
    return _stage(cluster, clock, rollback, {"web": ("shop:1", 2)}, "/StatefulSet web/spec/template/*/image")


def rolling_daemonset(directory: Path) -> RollbackScenario:
    """An annotation of the workload excludes it from Flux."""
    cluster, clock = _cluster()
    cluster.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-2"}})
    for version in ("1", "2"):
        cluster.apply(workload("DaemonSet", "agent", f"shop:{version}"))
    agent = cluster.get("DaemonSet", "shop", "agent")
    cluster.put(_named(agent, labels={"kustomize.toolkit.fluxcd.io/name": "apps"}), before=agent)
    rollback = {
        "strategy": "rolling",
        "kubernetes": {"namespace": "shop", "daemonset": "agent", "gitops": "suspend"},
        "batch_size": 2,
    }
    after = {"agent": ("shop:1", None), "agent reconciled": "disabled"}
    changes = "/DaemonSet agent/spec/template/*/image", "/DaemonSet agent/metadata/annotations/*reconcile"
    return _stage(cluster, clock, rollback, after, *changes)


def immediate_deployment(directory: Path) -> RollbackScenario:
    cluster, clock = _cluster()
    for version in ("1", "2"):
        cluster.apply(deployment("backend", f"shop:{version}", replicas=2))
    cluster.apply(deployment("importer", "importer:9", replicas=1))
    rollback = {
        "strategy": "immediate",
        "kubernetes": {"namespace": "shop", "deployment": "backend"},
        "stop": [{"namespace": "shop", "deployment": "importer"}],
    }
    after = {"backend": ("shop:1", 2), "importer": ("importer:9", 0)}
    changes = "/Deployment backend/spec/template/*/image", "/Deployment importer/spec/replicas"
    return _stage(cluster, clock, rollback, after, *changes)


def paused_deployment(directory: Path) -> RollbackScenario:
    """Somebody has paused its rollout, and Argo CD would restore the bad version."""
    cluster, clock = _cluster()
    for version in ("1", "2"):
        cluster.apply(deployment("backend", f"shop:{version}", replicas=2))
    backend = cluster.get("Deployment", "shop", "backend")
    tracked = {"argocd.argoproj.io/tracking-id": "web:apps/Deployment:shop/backend"}
    edit(cluster, _named(backend, annotations={**backend["metadata"]["annotations"], **tracked}), paused=True)
    meta, policy = {"name": "web", "namespace": "argocd"}, {"automated": {"selfHeal": True}}
    cluster.apply(
        {"apiVersion": "argoproj.io/v1alpha1", "kind": "Application", "metadata": meta, "spec": {"syncPolicy": policy}}
    )
    rollback = {
        "strategy": "immediate",
        "kubernetes": {"namespace": "shop", "deployment": "backend", "gitops": "suspend", "when_paused": "resume"},
    }
    how = cluster.get("Deployment", "shop", "backend")["spec"]["strategy"]
    after = {"backend": ("shop:1", 2), "backend rolls": (how, 0, False), "application web": False}
    changes = ["/Deployment backend/spec/template/*/image", "/Deployment backend/spec/paused"]
    return _stage(cluster, clock, rollback, after, *changes, "*/syncPolicy/automated/enabled")


def _named(found: dict[str, Any], **meta: Any) -> dict[str, Any]:
    return {**found, "metadata": {**found["metadata"], **meta}}


def blue_green_deployments(directory: Path) -> RollbackScenario:
    cluster, clock = _cluster()
    for color, versions, replicas in (("blue", "01", 0), ("green", "12", 2)):
        for version in versions:
            labels = {"app": "shop", "color": color}
            cluster.apply(deployment(f"shop-{color}", f"shop:{version}", replicas=replicas, labels=labels))
    # Blue is scaled down at another version than the good one: it must be restored first.
    blue = cluster.get("Deployment", "shop", "shop-blue")
    older = next(rs for rs in cluster.all("ReplicaSet") if "shop:0" in str(rs) and "blue" in str(rs))
    pods = dict(older["spec"]["template"])
    pods["metadata"] = {"labels": {"app": "shop", "color": "blue"}}
    edit(cluster, blue, template=pods)
    cluster.apply(service("shop", {"app": "shop", "color": "green"}))
    rollback = {
        "strategy": "blue_green",
        "pointer": {"namespace": "shop", "service": "shop"},
        "colors": {
            "blue": {
                "kubernetes": {"namespace": "shop", "deployment": "shop-blue"},
                "ready": [{"http": "http://idle/"}],
            },
            "green": {
                "kubernetes": {"namespace": "shop", "deployment": "shop-green"},
                "ready": [{"http": "http://idle/"}],
            },
        },
        "ready_for": "0s",
        "ready_within": "3s",
        "failed_replicas": 1,
    }
    after = {
        "shop-blue": ("shop:1", 2),
        "shop-green": ("shop:2", 1),
        "service shop": {"app": "shop", "color": "blue"},
    }
    changes = "/Deployment shop-*/spec/replicas", "/Service shop/spec/selector/color"
    kept = {"/Deployment shop-green/*/rollback-responder.io~1kept": "the pod is kept for study"}
    return _stage(cluster, clock, rollback, after, "/Deployment shop-blue/spec/template", *changes, stays=kept)


def blue_green_autoscaled(directory: Path) -> RollbackScenario:
    """An autoscaler reduces the color without load to one pod whenever time passes."""
    cluster, clock = _cluster()
    for color, versions, replicas in (("blue", "10", 1), ("green", "12", TRAFFIC)):
        for version in versions:
            labels = {"app": "shop", "color": color}
            cluster.apply(deployment(f"shop-{color}", f"shop:{version}", replicas=replicas, labels=labels))
    cluster.apply(service("shop", {"app": "shop", "color": "green"}))
    cluster.apply(autoscaler("shop-blue", 10))
    colors = {
        color: {
            "kubernetes": {"namespace": "shop", "deployment": f"shop-{color}"},
            "ready": [{"http": "http://idle/"}],
        }
        for color in ("blue", "green")
    }
    rollback = {
        "strategy": "blue_green",
        "pointer": {"namespace": "shop", "service": "shop"},
        "colors": colors,
        "ready_for": "1s",
        "ready_within": "3s",
        "keep_pods": 0,
    }
    after = {
        "shop-blue": ("shop:1", TRAFFIC),
        "autoscaler shop-blue": TRAFFIC,
        "service shop": {"app": "shop", "color": "blue"},
    }
    changes = "/Deployment shop-*/spec/replicas", "/Service shop/spec/selector/color"
    changes += "/HorizontalPodAutoscaler shop-blue/spec/minReplicas", "/Deployment shop-blue/spec/template/*/image"
    return _stage(cluster, clock, rollback, after, *changes)


STAGES = {
    "kubernetes_rolling": rolling_deployment,
    "kubernetes_partitioned": rolling_statefulset,
    "kubernetes_daemonset": rolling_daemonset,
    "kubernetes_immediate": immediate_deployment,
    "kubernetes_paused": paused_deployment,
    "kubernetes_blue_green": blue_green_deployments,
    "kubernetes_autoscaled": blue_green_autoscaled,
}

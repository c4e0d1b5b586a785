"""Stages in a cluster: a Deployment, a StatefulSet, and two colours behind a Service."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from responder.clients.kubernetes import Kubernetes
from responder.levers.kubernetes import PodTemplate
from responder.levers.lever import Lever
from tests.apiserver import Cluster
from tests.apiserver.client import InProcess
from tests.apiserver.manifests import deployment, service, statefulset
from tests.responder.crash.stages import Stage, shop

_HEALTHY = [{"http": "http://shop/health"}]


class _Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += max(seconds, 0.1)


def _stage(cluster: Cluster, clock: _Clock, rollback: dict[str, Any], rolled_back: dict[str, Any]) -> Stage:
    def outside() -> Any:
        return _state(cluster)

    return shop(
        rollback,
        _HEALTHY,
        outside=outside,
        rolled_back=rolled_back,
        stranger=lambda lever: _stranger(cluster, lever),
        clients={Kubernetes: InProcess(cluster)},
        written=lambda: _written(cluster),
        wait=clock.wait,
    )


def _state(cluster: Cluster) -> dict[str, Any]:
    """What runs, how it is set up to roll out, and where traffic goes."""
    cluster.step()
    told: dict[str, Any] = {}
    for kind in ("Deployment", "StatefulSet", "DaemonSet"):
        for one in cluster.all(kind):
            told[one["metadata"]["name"]] = _image(one), one["spec"].get("replicas")
            how = one["spec"].get("strategy") or one["spec"]["updateStrategy"]
            told[f"{one['metadata']['name']} rolls"] = how, one["spec"].get("minReadySeconds", 0)
    for one in cluster.all("Service"):
        told[f"service {one['metadata']['name']}"] = one["spec"]["selector"]
    return told


def _image(workload: dict[str, Any]) -> str:
    return str(workload["spec"]["template"]["spec"]["containers"][0]["image"])


def _written(cluster: Cluster) -> Any:
    kinds = ("Deployment", "StatefulSet", "DaemonSet", "Service")
    kept = [
        (one["metadata"].get("annotations") or {}).get("rollback-responder.io/kept")
        for one in cluster.all("Deployment")
    ]
    return [{**one["spec"]} for kind in kinds for one in cluster.all(kind)], kept


def _stranger(cluster: Cluster, lever: Lever) -> Awaitable[Any]:
    """Somebody with kubectl, right between plan and act."""

    async def act() -> Any:
        fields = lever.model_dump()
        kube = InProcess(cluster)
        match fields["lever"]:
            case "pod_template":
                assert isinstance(lever, PodTemplate)
                found = cluster.get(lever.kind, lever.namespace, lever.name)
                pods = found["spec"]["template"]
                hotfix = {**pods, "spec": {**pods["spec"], "containers": [{"name": "app", "image": "shop:hotfix"}]}}
                _edit(cluster, found, template=hotfix)
            case "rollout_settings":
                found = cluster.get("Deployment", "shop", fields["deployment"])
                _edit(cluster, found, minReadySeconds=77)
            case "partition":
                found = cluster.get("StatefulSet", "shop", fields["statefulset"])
                how = {"type": "RollingUpdate", "rollingUpdate": {"partition": 77}}
                _edit(cluster, found, updateStrategy=how)
            case "replicas":
                _edit(cluster, cluster.get("Deployment", "shop", fields["deployment"]), replicas=7)
            case "service_selector":
                found = cluster.get("Service", "shop", fields["service"])
                _edit(cluster, found, selector={**found["spec"]["selector"], "color": "purple"})
            case "kept_pods":
                found = cluster.get("Deployment", "shop", fields["deployment"])
                annotations = {**found["metadata"].get("annotations", {}), "rollback-responder.io/kept": "other"}
                cluster.put({**found, "metadata": {**found["metadata"], "annotations": annotations}}, before=found)
            case other:
                raise AssertionError(f"nobody says what a stranger does to {other}")
        cluster.step()
        return await lever.read(kube)

    return act()


def _edit(cluster: Cluster, found: dict[str, Any], **spec: Any) -> None:
    after = {**found, "metadata": dict(found["metadata"]), "spec": {**found["spec"], **spec}}
    cluster.put(after, before=found)


def _cluster() -> tuple[Cluster, _Clock]:
    clock = _Clock()
    return Cluster(clock=clock), clock


def rolling_deployment(directory: Path) -> Stage:
    cluster, clock = _cluster()
    for version in ("1", "2"):
        cluster.apply(deployment("backend", f"shop:{version}", replicas=3))
    rollback = {
        "strategy": "rolling",
        "kubernetes": {"namespace": "shop", "deployment": "backend"},
        "batch_size": 2,
        "batch_delay": "5s",
        "batch_healthy": [{"http": "http://batch/"}],
    }
    return _stage(cluster, clock, rollback, {"backend": ("shop:1", 3)})


def rolling_statefulset(directory: Path) -> Stage:
    cluster, clock = _cluster()
    for version in ("1", "2"):
        cluster.apply(statefulset("web", f"shop:{version}", replicas=2))
    rollback = {
        "strategy": "rolling",
        "kubernetes": {"namespace": "shop", "statefulset": "web", "within": "9s"},
        "batch_delay": "2s",
        "batch_healthy": [{"http": "http://batch/"}],
    }
    return _stage(cluster, clock, rollback, {"web": ("shop:1", 2)})


def immediate_deployment(directory: Path) -> Stage:
    cluster, clock = _cluster()
    for version in ("1", "2"):
        cluster.apply(deployment("backend", f"shop:{version}", replicas=2))
    cluster.apply(deployment("importer", "importer:9", replicas=1))
    rollback = {
        "strategy": "immediate",
        "kubernetes": {"namespace": "shop", "deployment": "backend"},
        "stop": [{"namespace": "shop", "deployment": "importer"}],
    }
    return _stage(cluster, clock, rollback, {"backend": ("shop:1", 2), "importer": ("importer:9", 0)})


def blue_green_deployments(directory: Path) -> Stage:
    cluster, clock = _cluster()
    for colour, versions, replicas in (("blue", "01", 0), ("green", "12", 2)):
        for version in versions:
            labels = {"app": "shop", "color": colour}
            cluster.apply(deployment(f"shop-{colour}", f"shop:{version}", replicas=replicas, labels=labels))
    # Blue was left at another version than the good one, and scaled down: it has to be brought back first.
    blue = cluster.get("Deployment", "shop", "shop-blue")
    older = next(rs for rs in cluster.all("ReplicaSet") if "shop:0" in str(rs) and "blue" in str(rs))
    pods = dict(older["spec"]["template"])
    pods["metadata"] = {"labels": {"app": "shop", "color": "blue"}}
    _edit(cluster, blue, template=pods)
    cluster.apply(service("shop", {"app": "shop", "color": "green"}))
    rollback = {
        "strategy": "blue_green",
        "pointer": {"namespace": "shop", "service": "shop"},
        "colours": {
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
    return _stage(cluster, clock, rollback, after)


STAGES = {
    "kubernetes_rolling": rolling_deployment,
    "kubernetes_partitioned": rolling_statefulset,
    "kubernetes_immediate": immediate_deployment,
    "kubernetes_blue_green": blue_green_deployments,
}

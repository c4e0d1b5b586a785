"""The controllers and an instant kubelet, as far as a rollback can see them.

Each controller notices a change 5 to 320 ms later, as on a real control plane, and independently: either of two
affected controllers may be the first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.apiserver.controllers.deployments import sync_deployment, sync_replicaset
from tests.apiserver.controllers.nodes import sync_endpoints, sync_pod
from tests.apiserver.controllers.objects import Object, owned
from tests.apiserver.controllers.workloads import sync_daemonset, sync_statefulset

if TYPE_CHECKING:
    from tests.apiserver.cluster import Cluster

_MOST_ROUNDS = 200
_LAG = 0.005, 0.32
"""Seconds."""


def run(cluster: Cluster) -> None:
    """Runs all controllers until nothing changes."""
    syncs: dict[str, Callable[[Cluster, Object], None]] = {
        "Deployment": sync_deployment, "ReplicaSet": sync_replicaset,
        "StatefulSet": sync_statefulset, "DaemonSet": sync_daemonset,
    }  # fmt: skip
    for _ in range(_MOST_ROUNDS):
        before = cluster.version
        for kind, sync in syncs.items():
            for item in cluster.all(kind):
                if _notices(cluster, kind, item):
                    sync(cluster, item)
                    if cluster.lags:
                        cluster.noticed[item["metadata"]["uid"]] = _sight(cluster, kind, item)
        for pod in cluster.all("Pod"):
            sync_pod(cluster, pod)
        for service in cluster.all("Service"):
            sync_endpoints(cluster, service)
        if cluster.version == before:
            return
    raise AssertionError("the controllers do not come to rest")


_DEPENDENTS = {"Deployment": "ReplicaSet", "ReplicaSet": "Pod", "StatefulSet": "Pod", "DaemonSet": "Pod"}


def _sight(cluster: Cluster, kind: str, found: Object) -> Any:
    """The objects that a controller watches: the object and those that it owns."""
    dependents = [
        (child["metadata"]["uid"], child["metadata"]["generation"], child.get("status")) if kind == "Deployment"
        else (child["metadata"]["uid"], child["metadata"].get("labels"), child.get("readySince"))
        for child in owned(cluster, _DEPENDENTS[kind], found)
    ]  # fmt: skip
    return found["metadata"]["generation"], dependents


def _notices(cluster: Cluster, kind: str, found: Object) -> bool:
    """Whether its controller has seen the current object. Without changes, only the time matters."""
    if not cluster.lags:
        return True
    uid = found["metadata"]["uid"]
    if cluster.noticed.get(uid) == _sight(cluster, kind, found):
        return True
    due = cluster.due.setdefault(uid, cluster.clock() + cluster.draw(*_LAG))
    if cluster.clock() < due:
        return False
    del cluster.due[uid]
    return True

"""The controller of HorizontalPodAutoscalers: as many pods as the load needs, within bounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.apiserver.cluster import Cluster


def autoscale(cluster: Cluster, load: Callable[[str], int]) -> None:
    """`load`: the number of pods that the load of each Deployment needs."""
    for scaler in cluster.all("HorizontalPodAutoscaler"):
        meta, spec = scaler["metadata"], scaler["spec"]
        name = spec["scaleTargetRef"]["name"]
        found = cluster.get("Deployment", meta["namespace"], name)
        wanted = max(min(load(name), spec["maxReplicas"]), spec.get("minReplicas", 1))
        if found["spec"]["replicas"] not in (0, wanted):  # 0 disables it
            after = {**found, "metadata": dict(found["metadata"]), "spec": {**found["spec"], "replicas": wanted}}
            cluster.put(after, before=found)

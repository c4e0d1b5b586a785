"""What the controller of HorizontalPodAutoscalers does: as many pods as the load wants, within bounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.apiserver.cluster import Cluster


def autoscale(cluster: Cluster, load: Callable[[str], int]) -> None:
    """`load`: how many pods the load of the Deployment of that name wants."""
    for scaler in cluster.all("HorizontalPodAutoscaler"):
        meta, spec = scaler["metadata"], scaler["spec"]
        name = spec["scaleTargetRef"]["name"]
        found = cluster.get("Deployment", meta["namespace"], name)
        wanted = max(min(load(name), spec["maxReplicas"]), spec.get("minReplicas", 1))
        if found["spec"]["replicas"] not in (0, wanted):  # 0 switches it off
            after = {**found, "metadata": dict(found["metadata"]), "spec": {**found["spec"], "replicas": wanted}}
            cluster.put(after, before=found)

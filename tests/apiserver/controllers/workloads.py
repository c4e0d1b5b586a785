"""The controllers of StatefulSets and DaemonSets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apiserver.controllers.deployments import count, hash_of
from tests.apiserver.controllers.objects import Object, is_ready, make_pod, owned, owner_of, put, ready_for, suffix

if TYPE_CHECKING:
    from tests.apiserver.cluster import Cluster


_HASHES = {"StatefulSet": "controller.kubernetes.io/hash", "DaemonSet": "controller-revision-hash"}


def _revision(cluster: Cluster, found: Object) -> Object:
    """The ControllerRevision of the current template; an equal one is reused with the highest number."""
    kept = owned(cluster, "ControllerRevision", found)
    template = {**found["spec"]["template"], "$patch": "replace"}
    highest = max((r["revision"] for r in kept), default=0)
    for candidate in kept:
        if candidate["data"]["spec"]["template"] == template:
            if candidate["revision"] < highest:
                put(cluster, candidate, revision=highest + 1)
            return candidate
    mark, meta = hash_of(template), found["metadata"]
    return cluster.put({
        "apiVersion": "apps/v1", "kind": "ControllerRevision",
        "metadata": {
            "name": f"{meta['name']}-{mark}", "namespace": meta["namespace"], "ownerReferences": [owner_of(found)],
            "labels": {**found["spec"]["template"]["metadata"]["labels"], _HASHES[found["kind"]]: mark},
            **({"annotations": annotations} if (annotations := found["metadata"].get("annotations")) else {}),
        },
        "data": {"spec": {"template": template}}, "revision": highest + 1,
    })  # fmt: skip


def _by_name(cluster: Cluster, found: Object, name: str) -> Object:
    return next(r for r in owned(cluster, "ControllerRevision", found) if r["metadata"]["name"] == name)


def sync_statefulset(cluster: Cluster, found: Object) -> None:
    spec, meta = found["spec"], found["metadata"]
    update = _revision(cluster, found)
    status = dict(found.get("status", {}))
    current = status.get("currentRevision") or update["metadata"]["name"]
    name, target = meta["name"], update["metadata"]["name"]
    strategy = spec["updateStrategy"]
    partition = (strategy.get("rollingUpdate") or {}).get("partition", 0) if strategy["type"] == "RollingUpdate" else 0
    ordered = spec["podManagementPolicy"] == "OrderedReady"
    pods = {int(p["metadata"]["name"].rpartition("-")[2]): p for p in owned(cluster, "Pod", found)}
    for number in sorted(pods):
        if number >= spec["replicas"]:
            cluster.drop(pods.pop(number))
    blocked = False
    for number in range(spec["replicas"]):
        pod = pods.get(number)
        if pod is None:
            of = target if number >= partition and strategy["type"] == "RollingUpdate" else current
            of = target if strategy["type"] == "OnDelete" else of
            template = {
                k: v for k, v in _by_name(cluster, found, of)["data"]["spec"]["template"].items() if k != "$patch"
            }
            made = make_pod(cluster, found, f"{name}-{number}", template, controller_revision_hash=of)
            made["metadata"]["labels"]["statefulset.kubernetes.io/pod-name"] = f"{name}-{number}"
            made["metadata"]["labels"]["apps.kubernetes.io/pod-index"] = str(number)
            made["spec"]["hostname"] = f"{name}-{number}"
            pods[number] = pod = made
        if ordered and not is_ready(pod):
            blocked = True  # kubernetes/kubernetes#67250: also if the pod has a reverted template
            break
    if strategy["type"] == "RollingUpdate" and not blocked:
        for number in sorted(pods, reverse=True):
            pod = pods[number]
            if number >= partition and pod["metadata"]["labels"]["controller-revision-hash"] != target:
                cluster.drop(pod)
                break
            if not is_ready(pod):
                break
    alive = owned(cluster, "Pod", found)
    updated = [p for p in alive if p["metadata"]["labels"]["controller-revision-hash"] == target]
    if len(updated) == spec["replicas"] and all(map(is_ready, updated)):
        current = target
    on_current = sum(p["metadata"]["labels"]["controller-revision-hash"] == current for p in alive)
    status = {
        "collisionCount": 0, "currentReplicas": on_current,
        "observedGeneration": meta["generation"], "replicas": len(alive), "updatedReplicas": len(updated),
        "readyReplicas": sum(map(is_ready, alive)), "currentRevision": current, "updateRevision": target,
        "availableReplicas": sum(ready_for(cluster, p, spec.get("minReadySeconds", 0)) for p in alive),
    }  # fmt: skip
    status = {k: v for k, v in status.items() if v != 0 or k in ("replicas", "availableReplicas", "collisionCount")}
    if status != found.get("status"):
        put(cluster, found, status=status)


_DAEMONSET_COUNTS = ("desiredNumberScheduled", "currentNumberScheduled", "numberReady")


def sync_daemonset(cluster: Cluster, found: Object) -> None:
    spec, update = found["spec"], _revision(cluster, found)
    mark = update["metadata"]["name"].removeprefix(f"{found['metadata']['name']}-")
    pods = {p["spec"]["nodeName"]: p for p in owned(cluster, "Pod", found)}
    nodes = [n["metadata"]["name"] for n in cluster.all("Node")]
    for node in nodes:
        if node not in pods:
            pinned = {**spec["template"]["spec"], "nodeName": node}
            template = {**spec["template"], "spec": pinned}
            name = f"{found['metadata']['name']}-{suffix(cluster.version)}"
            pods[node] = make_pod(cluster, found, name, template, controller_revision_hash=mark)
    old = [p for p in pods.values() if p["metadata"]["labels"]["controller-revision-hash"] != mark]
    if spec["updateStrategy"]["type"] == "RollingUpdate":
        most = max(count(spec["updateStrategy"]["rollingUpdate"]["maxUnavailable"], len(nodes), up=True), 1)
        seconds = spec.get("minReadySeconds", 0)
        down = sum(not ready_for(cluster, p, seconds) for p in pods.values())
        for pod in sorted(old, key=is_ready):
            if is_ready(pod):
                if down >= most:
                    break
                down += 1
            cluster.drop(pod)
    alive = owned(cluster, "Pod", found)
    status = {
        "observedGeneration": found["metadata"]["generation"],
        "desiredNumberScheduled": len(nodes), "currentNumberScheduled": len(alive),
        "updatedNumberScheduled": sum(p["metadata"]["labels"]["controller-revision-hash"] == mark for p in alive),
        "numberReady": sum(map(is_ready, alive)),
        "numberAvailable": sum(ready_for(cluster, p, spec.get("minReadySeconds", 0)) for p in alive),
    }  # fmt: skip
    status = {k: v for k, v in status.items() if v != 0 or k in _DAEMONSET_COUNTS} | {"numberMisscheduled": 0}
    if status != found.get("status"):
        put(cluster, found, status=status)

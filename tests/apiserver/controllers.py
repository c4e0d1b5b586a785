"""The controllers and an instant kubelet, as far as a rollback can see them.

Each controller notices a change 5 to 320 ms later, as on a real control plane, and independently: either of two
affected controllers may be the first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.apiserver.deployments import count, hash_of, sync_deployment, sync_replicaset
from tests.apiserver.objects import Object, has, is_ready, make_pod, owned, owner_of, put, ready_for, suffix

if TYPE_CHECKING:
    from tests.apiserver.cluster import Cluster

_MOST_ROUNDS = 200
_LAG = 0.005, 0.32
"""Seconds."""


def run(cluster: Cluster) -> None:
    """Runs all controllers until nothing changes."""
    syncs: dict[str, Callable[[Cluster, Object], None]] = {
        "Deployment": sync_deployment, "ReplicaSet": sync_replicaset,
        "StatefulSet": _statefulset, "DaemonSet": _daemonset,
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
            _kubelet(cluster, pod)
        for service in cluster.all("Service"):
            _endpoints(cluster, service)
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


# --- StatefulSets and DaemonSets ---


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
            "labels": {**found["spec"]["template"]["metadata"]["labels"], "controller.kubernetes.io/hash": mark},
        },
        "data": {"spec": {"template": template}}, "revision": highest + 1,
    })  # fmt: skip


def _by_name(cluster: Cluster, found: Object, name: str) -> Object:
    return next(r for r in owned(cluster, "ControllerRevision", found) if r["metadata"]["name"] == name)


def _statefulset(cluster: Cluster, found: Object) -> None:
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
    status = {
        "observedGeneration": meta["generation"], "replicas": len(alive), "updatedReplicas": len(updated),
        "readyReplicas": sum(map(is_ready, alive)), "currentRevision": current, "updateRevision": target,
        "availableReplicas": sum(ready_for(cluster, p, spec.get("minReadySeconds", 0)) for p in alive),
    }  # fmt: skip
    if status != found.get("status"):
        put(cluster, found, status=status)


def _daemonset(cluster: Cluster, found: Object) -> None:
    spec, update = found["spec"], _revision(cluster, found)
    mark = update["metadata"]["name"].removeprefix(f"{found['metadata']['name']}-")
    pods = {p["spec"]["nodeName"]: p for p in owned(cluster, "Pod", found)}
    nodes = [n["metadata"]["name"] for n in cluster.all("Node")]
    for node in nodes:
        if node not in pods:
            template = {**spec["template"], "spec": {**spec["template"]["spec"], "nodeName": node}}
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
    status = {k: v for k, v in status.items() if v != 0}
    if status != found.get("status"):
        put(cluster, found, status=status)


# --- kubelet and endpoints ---


def _kubelet(cluster: Cluster, pod: Object) -> None:
    containers = [_container(cluster, pod, c) for c in pod["spec"]["containers"]]
    ready = all(c["ready"] for c in containers)
    status = {
        "phase": "Running" if any(c["state"].get("running") is not None for c in containers) else "Pending",
        "podIP": f"10.0.{len(pod['metadata']['name'])}.{pod['metadata']['uid'].rpartition('-')[2]}",
        "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        "containerStatuses": containers,
    }
    since = (pod.get("readySince") if pod.get("readySince") is not None else cluster.clock()) if ready else None
    if status != pod["status"] or since != pod.get("readySince"):
        spec = pod["spec"] if "nodeName" in pod["spec"] else {**pod["spec"], "nodeName": "node-1"}
        put(cluster, pod, status=status, readySince=since, spec=spec)


def _container(cluster: Cluster, pod: Object, container: Object) -> Object:
    image = cluster.image(container["image"])
    base = {"name": container["name"], "image": container["image"], "ready": False, "restartCount": 0}
    if missing := _missing(cluster, pod, container):
        waiting = {"reason": "CreateContainerConfigError", "message": f"{missing} not found"}
        return {**base, "imageID": "", "state": {"waiting": waiting}}
    repository = container["image"].partition("@")[0]
    repository = repository.rpartition(":")[0] if ":" in repository.rpartition("/")[2] else repository
    status = {**base, "imageID": f"{repository}@{image.digest}"}
    match image.starts:
        case "pull_fails":
            waiting = {"reason": "ImagePullBackOff", "message": f'Back-off pulling image "{container["image"]}"'}
            return {**base, "imageID": "", "state": {"waiting": waiting}}
        case "crashes":
            waiting = {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}
            last = {"terminated": {"exitCode": 1, "reason": "Error"}}
            return {**status, "restartCount": 1, "state": {"waiting": waiting}, "lastState": last}
        case "never_ready":
            return {**status, "state": {"running": {}}}
    return {**status, "ready": cluster.clock() - pod["born"] >= image.ready_after, "state": {"running": {}}}


def _missing(cluster: Cluster, pod: Object, container: Object) -> str:
    namespace = pod["metadata"]["namespace"]
    for source in container.get("envFrom", ()):
        for key, resource in (("configMapRef", "configmaps"), ("secretRef", "secrets")):
            if key in source and (namespace, source[key]["name"]) not in cluster.objects[resource]:
                return f'{resource[:-1]} "{source[key]["name"]}"'
    return ""


def _endpoints(cluster: Cluster, service: Object) -> None:
    meta = service["metadata"]
    selector = service["spec"].get("selector")
    if not selector:
        return
    endpoints = [
        {
            "addresses": [pod["status"]["podIP"]],
            "conditions": {"ready": is_ready(pod)},
            "targetRef": {"kind": "Pod", "name": pod["metadata"]["name"], "namespace": meta["namespace"]},
        }
        for pod in cluster.all("Pod", meta["namespace"])
        if has(pod, selector) and "podIP" in pod["status"]
    ]
    name = f"{meta['name']}-1"
    found = cluster.objects["discovery.k8s.io/endpointslices"].get((meta["namespace"], name))
    if found is None:
        cluster.put({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "name": name, "namespace": meta["namespace"], "ownerReferences": [owner_of(service)],
                "labels": {"kubernetes.io/service-name": meta["name"]},
            },
            "endpoints": endpoints,
        })  # fmt: skip
    elif found["endpoints"] != endpoints:
        put(cluster, found, endpoints=endpoints)

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


def _daemonset(cluster: Cluster, found: Object) -> None:
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


# --- kubelet and endpoints ---


def _kubelet(cluster: Cluster, pod: Object) -> None:
    containers = [_container(cluster, pod, c) for c in pod["spec"]["containers"]]
    ready = all(c["ready"] for c in containers)
    address = f"10.0.{len(pod['metadata']['name'])}.{pod['metadata']['uid'].rpartition('-')[2]}"
    status = {
        "phase": "Running" if any(c["state"].get("running") is not None for c in containers) else "Pending",
        "podIP": address, "podIPs": [{"ip": address}], "hostIP": "192.168.0.1", "qosClass": "BestEffort",
        "conditions": [_condition(cluster, pod, kind, met=ready) for kind in _CONDITIONS],
        "containerStatuses": containers, "startTime": pod["status"].get("startTime") or cluster.stamp(),
    }  # fmt: skip
    since = (pod.get("readySince") if pod.get("readySince") is not None else cluster.clock()) if ready else None
    if status != pod["status"] or since != pod.get("readySince"):
        spec = pod["spec"] if "nodeName" in pod["spec"] else {**pod["spec"], "nodeName": "node-1"}
        put(cluster, pod, status=status, readySince=since, spec=spec)


_CONDITIONS = ("PodScheduled", "Initialized", "ContainersReady", "Ready")


def _condition(cluster: Cluster, pod: Object, kind: str, *, met: bool) -> Object:
    status = "True" if met or kind in _CONDITIONS[:2] else "False"
    for before in pod["status"].get("conditions", ()):
        if before["type"] == kind and before["status"] == status:
            return dict(before)
    return {
        "type": kind, "status": status, "lastProbeTime": None, "lastTransitionTime": cluster.stamp(),
        "observedGeneration": pod["metadata"].get("generation", 1),
    }  # fmt: skip


def _container(cluster: Cluster, pod: Object, container: Object) -> Object:
    image = cluster.image(container["image"])
    base = {
        "name": container["name"], "image": container["image"], "ready": False, "restartCount": 0, "started": False,
        "lastState": {},
    }  # fmt: skip
    running = next((c["state"] for c in pod["status"].get("containerStatuses", ())
                    if c["name"] == container["name"] and "running" in c["state"]), None)  # fmt: skip
    running = running or {"running": {"startedAt": cluster.stamp()}}
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
            return {**status, "started": True, "state": running}
    ready = cluster.clock() - pod["born"] >= image.ready_after
    return {**status, "started": True, "ready": ready, "state": running}


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
            "conditions": {"ready": is_ready(pod), "serving": is_ready(pod), "terminating": False},
            "nodeName": pod["spec"].get("nodeName", ""),
            "targetRef": {
                "kind": "Pod", "name": pod["metadata"]["name"], "namespace": meta["namespace"],
                "uid": pod["metadata"]["uid"],
            },
        }
        for pod in cluster.all("Pod", meta["namespace"])
        if has(pod, selector) and "podIP" in pod["status"]
    ]  # fmt: skip
    found = next(iter(owned(cluster, "EndpointSlice", service)), None)
    ports = [{"name": port.get("name", ""), "port": port["targetPort"], "protocol": port["protocol"]}
             for port in service["spec"].get("ports", ())]  # fmt: skip
    state: Object = {"endpoints": endpoints or None, "ports": ports if endpoints else None}
    if found is None:
        cluster.put({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "name": f"{meta['name']}-{suffix(cluster.version)}", "generateName": f"{meta['name']}-",
                "namespace": meta["namespace"], "ownerReferences": [owner_of(service)],
                "labels": {
                    "kubernetes.io/service-name": meta["name"],
                    "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                },
                "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": cluster.stamp()},
            },
            **state,
        })  # fmt: skip
    elif any(found[key] != value for key, value in state.items()):
        put(cluster, found, **state)

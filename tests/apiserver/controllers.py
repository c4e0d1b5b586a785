"""What the controllers and an instant kubelet do, as far as a rollback can see it."""

from __future__ import annotations

import hashlib
import json
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.apiserver.cluster import Cluster

Object = dict[str, Any]
_REVISION = "deployment.kubernetes.io/revision"
_MOST_ROUNDS = 200


def run(cluster: Cluster) -> None:
    """All of them, until nothing changes any more at this moment."""
    for _ in range(_MOST_ROUNDS):
        before = cluster.version
        for deployment in cluster.all("Deployment"):
            _deployment(cluster, deployment)
        for replicaset in cluster.all("ReplicaSet"):
            _replicaset(cluster, replicaset)
        for statefulset in cluster.all("StatefulSet"):
            _statefulset(cluster, statefulset)
        for daemonset in cluster.all("DaemonSet"):
            _daemonset(cluster, daemonset)
        for pod in cluster.all("Pod"):
            _kubelet(cluster, pod)
        for service in cluster.all("Service"):
            _endpoints(cluster, service)
        if cluster.version == before:
            return
    raise AssertionError("the controllers do not come to rest")


def _put(cluster: Cluster, found: Object, **changes: Any) -> None:
    """Stores a new state, where it is one."""
    after = {**found, **changes}
    if after != found:
        after["metadata"] = dict(after["metadata"])
        cluster.put(after, before=found)
        found.update(after)


def hash_of(template: Object) -> str:
    text = json.dumps(template, sort_keys=True)
    return (
        hashlib.sha256(text.encode()).hexdigest()[:10].translate(str.maketrans("0123456789abcdef", "bcdfghjklmnpqrst"))
    )


def _owner(found: Object) -> Object:
    return {
        "apiVersion": found["apiVersion"], "kind": found["kind"], "name": found["metadata"]["name"],
        "uid": found["metadata"]["uid"], "controller": True, "blockOwnerDeletion": True,
    }  # fmt: skip


def _owned(cluster: Cluster, kind: str, owner: Object) -> list[Object]:
    uid = owner["metadata"]["uid"]
    return [
        one
        for one in cluster.all(kind, owner["metadata"]["namespace"])
        if any(ref["uid"] == uid for ref in one["metadata"].get("ownerReferences", ()))
    ]


def _ready_for(cluster: Cluster, pod: Object, seconds: float) -> bool:
    since = pod.get("readySince")
    return since is not None and cluster.clock() - since >= seconds


# --- Deployments ---


def _count(value: Any, of: int, *, up: bool) -> int:
    if isinstance(value, str):
        share = of * int(value.rstrip("%")) / 100
        return math.ceil(share) if up else math.floor(share)
    return int(value)


def _deployment(cluster: Cluster, found: Object) -> None:
    spec, meta = found["spec"], found["metadata"]
    sets = _owned(cluster, "ReplicaSet", found)
    new = next((rs for rs in sets if _template(rs) == spec["template"]), None)
    if new is None and not spec.get("paused"):
        new = _new_replicaset(cluster, found, spec["template"])
        sets.append(new)
    elif new is not None and not spec.get("paused"):
        highest = max(int(rs["metadata"]["annotations"][_REVISION]) for rs in sets)
        if int(new["metadata"]["annotations"][_REVISION]) < highest:
            annotations = {**new["metadata"]["annotations"], _REVISION: str(highest + 1)}
            _put(cluster, new, metadata={**new["metadata"], "annotations": annotations})
    if new is not None:
        revision = new["metadata"]["annotations"][_REVISION]
        if (meta.get("annotations") or {}).get(_REVISION) != revision:
            annotations = {**(meta.get("annotations") or {}), _REVISION: revision}
            _put(cluster, found, metadata={**meta, "annotations": annotations})
    old = [rs for rs in sets if rs is not new]
    if not spec.get("paused") and new is not None:
        if spec["strategy"]["type"] == "Recreate":
            for rs in old:
                _scale(cluster, rs, 0)
            if not any(_pods_of(cluster, rs) for rs in old):
                _scale(cluster, new, spec["replicas"])
        else:
            _roll(cluster, found, new, old)
        _forget(cluster, found, old)
    elif spec.get("paused"):
        active = [rs for rs in sets if rs["spec"]["replicas"]]
        if len(active) == 1:
            _scale(cluster, active[0], spec["replicas"])
    _deployment_status(cluster, found, new, sets)


def _template(rs: Object) -> Object:
    template = dict(rs["spec"]["template"])
    labels = {k: v for k, v in template["metadata"]["labels"].items() if k != "pod-template-hash"}
    return {**template, "metadata": {**template["metadata"], "labels": labels}}


def _new_replicaset(cluster: Cluster, found: Object, template: Object) -> Object:
    meta, mark = found["metadata"], hash_of(template)
    labels = {**template["metadata"]["labels"], "pod-template-hash": mark}
    numbers = [int(rs["metadata"]["annotations"][_REVISION]) for rs in _owned(cluster, "ReplicaSet", found)]
    selector = {"matchLabels": {**found["spec"]["selector"]["matchLabels"], "pod-template-hash": mark}}
    return cluster.put({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {
            "name": f"{meta['name']}-{mark}", "namespace": meta["namespace"], "labels": labels,
            "annotations": {
                _REVISION: str(max(numbers, default=0) + 1),
                "deployment.kubernetes.io/desired-replicas": str(found["spec"]["replicas"]),
                "deployment.kubernetes.io/max-replicas": str(found["spec"]["replicas"]),
            },
            "ownerReferences": [_owner(found)],
        },
        "spec": {
            "replicas": 0, "selector": selector,
            "template": {**template, "metadata": {**template["metadata"], "labels": labels}},
        },
    })  # fmt: skip


def _scale(cluster: Cluster, rs: Object, replicas: int) -> None:
    _put(cluster, rs, spec={**rs["spec"], "replicas": max(replicas, 0)})


def _pods_of(cluster: Cluster, owner: Object) -> list[Object]:
    return _owned(cluster, "Pod", owner)


def _roll(cluster: Cluster, found: Object, new: Object, old: list[Object]) -> None:
    spec = found["spec"]
    wanted, rolling = spec["replicas"], spec["strategy"]["rollingUpdate"]
    surge = _count(rolling["maxSurge"], wanted, up=True)
    unavailable = _count(rolling["maxUnavailable"], wanted, up=False)
    if not surge and not unavailable:
        unavailable = 1
    total = new["spec"]["replicas"] + sum(rs["spec"]["replicas"] for rs in old)
    if new["spec"]["replicas"] < wanted:
        _scale(cluster, new, min(wanted, new["spec"]["replicas"] + max(wanted + surge - total, 0)))
    elif new["spec"]["replicas"] > wanted:
        _scale(cluster, new, wanted)
    seconds = spec.get("minReadySeconds", 0)
    least = wanted - unavailable
    available = sum(_ready_for(cluster, p, seconds) for rs in (new, *old) for p in _pods_of(cluster, rs))
    for rs in old:  # what is not available goes first and costs nothing
        bad = [p for p in _pods_of(cluster, rs) if not _ready_for(cluster, p, seconds)]
        total = new["spec"]["replicas"] + sum(one["spec"]["replicas"] for one in old)
        not_there = new["spec"]["replicas"] - sum(_ready_for(cluster, p, seconds) for p in _pods_of(cluster, new))
        spare = total - least - not_there
        gone = max(min(len(bad), spare, rs["spec"]["replicas"]), 0)
        for pod in bad[:gone]:
            cluster.drop(pod)
        _scale(cluster, rs, rs["spec"]["replicas"] - gone)
    for rs in old:
        gone = max(min(rs["spec"]["replicas"], available - least), 0)
        available -= gone
        _scale(cluster, rs, rs["spec"]["replicas"] - gone)


def _forget(cluster: Cluster, found: Object, old: list[Object]) -> None:
    kept = sorted(old, key=lambda rs: int(rs["metadata"]["annotations"][_REVISION]))
    while len(kept) > found["spec"]["revisionHistoryLimit"] and not kept[0]["spec"]["replicas"]:
        cluster.drop(kept.pop(0))


def _deployment_status(cluster: Cluster, found: Object, new: Object | None, sets: list[Object]) -> None:
    seconds = found["spec"].get("minReadySeconds", 0)
    pods = [p for rs in sets for p in _pods_of(cluster, rs)]
    updated = _pods_of(cluster, new) if new else []
    available = sum(_ready_for(cluster, p, seconds) for p in pods)
    wanted, before = found["spec"]["replicas"], found.get("status", {})
    ready_new = sum(_ready_for(cluster, p, seconds) for p in updated)
    done = len(updated) == wanted == len(pods) == available
    # Progress is counted from the last time that anything moved.
    told = [found["metadata"]["generation"], len(updated), ready_new, len(pods)]
    since = found.get("progress", {})
    if since.get("told") != told:
        _put(cluster, found, progress={"told": told, "at": cluster.clock()})
        since = found["progress"]
    late = not done and cluster.clock() - since["at"] > found["spec"]["progressDeadlineSeconds"]
    name = new["metadata"]["name"] if new else ""
    if found["spec"].get("paused"):
        progressing = {"status": "Unknown", "reason": "DeploymentPaused", "message": "Deployment is paused"}
    elif late:
        message = f'ReplicaSet "{name}" has timed out progressing.'
        progressing = {"status": "False", "reason": "ProgressDeadlineExceeded", "message": message}
    elif done:
        message = f'ReplicaSet "{name}" has successfully progressed.'
        progressing = {"status": "True", "reason": "NewReplicaSetAvailable", "message": message}
    else:
        progressing = {
            "status": "True",
            "reason": "ReplicaSetUpdated",
            "message": f'ReplicaSet "{name}" is progressing.',
        }
    status = {
        "observedGeneration": found["metadata"]["generation"],
        "replicas": len(pods), "updatedReplicas": len(updated), "readyReplicas": sum(_is_ready(p) for p in pods),
        "availableReplicas": available, "unavailableReplicas": max(wanted - available, 0),
        "conditions": [{"type": "Progressing", **progressing}],
    }  # fmt: skip
    if any(rs.get("over") for rs in sets):
        told_by = f'pods "{name}-x" is forbidden: exceeded quota: pods, used: pods={cluster.quota}'
        failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": told_by}
        status["conditions"].append(failure)
    # Zero is not told, as Go leaves it out.
    status = {k: v for k, v in status.items() if v != 0}
    if status != before:
        _put(cluster, found, status=status)


def _is_ready(pod: Object) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod.get("status", {}).get("conditions", ()))


# --- ReplicaSets and their pods ---


def _replicaset(cluster: Cluster, rs: Object) -> None:
    wanted_labels = rs["spec"]["selector"]["matchLabels"]
    for pod in _pods_of(cluster, rs):
        if not _has(pod, wanted_labels):  # released: somebody took a label away
            meta = {k: v for k, v in pod["metadata"].items() if k != "ownerReferences"}
            _put(cluster, pod, metadata=meta)
    for pod in cluster.all("Pod", rs["metadata"]["namespace"]):
        if not pod["metadata"].get("ownerReferences") and _has(pod, wanted_labels):
            _put(cluster, pod, metadata={**pod["metadata"], "ownerReferences": [_owner(rs)]})
    pods = _pods_of(cluster, rs)
    over = cluster.quota is not None and len(cluster.all("Pod", rs["metadata"]["namespace"])) >= cluster.quota
    if rs.get("over", False) != (over and len(pods) < rs["spec"]["replicas"]):
        _put(cluster, rs, over=over)
    for _ in range(0 if over else rs["spec"]["replicas"] - len(pods)):
        cluster.version += 1
        _make_pod(cluster, rs, f"{rs['metadata']['name']}-{_suffix(cluster.version)}", rs["spec"]["template"])
    for pod in sorted(pods, key=_is_ready)[: max(len(pods) - rs["spec"]["replicas"], 0)]:
        cluster.drop(pod)
        cluster.version += 1


def _suffix(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()[:5]


def _has(found: Object, labels: dict[str, str]) -> bool:
    own = found["metadata"].get("labels") or {}
    return all(own.get(k) == v for k, v in labels.items())


def _make_pod(cluster: Cluster, owner: Object, name: str, template: Object, **labels: str) -> Object:
    return cluster.put({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": owner["metadata"]["namespace"], "ownerReferences": [_owner(owner)],
            "labels": {**template["metadata"]["labels"], **{k.replace("_", "-"): v for k, v in labels.items()}},
        },
        "spec": dict(template["spec"]),
        "status": {"phase": "Pending"},
        "born": cluster.clock(),
    })  # fmt: skip


# --- StatefulSets and DaemonSets ---


def _revision(cluster: Cluster, found: Object) -> Object:
    """The ControllerRevision of the present template; an equal one is used again, with the highest number."""
    kept = _owned(cluster, "ControllerRevision", found)
    template = {**found["spec"]["template"], "$patch": "replace"}
    highest = max((r["revision"] for r in kept), default=0)
    for one in kept:
        if one["data"]["spec"]["template"] == template:
            if one["revision"] < highest:
                _put(cluster, one, revision=highest + 1)
            return one
    mark, meta = hash_of(template), found["metadata"]
    return cluster.put({
        "apiVersion": "apps/v1", "kind": "ControllerRevision",
        "metadata": {
            "name": f"{meta['name']}-{mark}", "namespace": meta["namespace"], "ownerReferences": [_owner(found)],
            "labels": {**found["spec"]["template"]["metadata"]["labels"], "controller.kubernetes.io/hash": mark},
        },
        "data": {"spec": {"template": template}}, "revision": highest + 1,
    })  # fmt: skip


def _by_name(cluster: Cluster, found: Object, name: str) -> Object:
    return next(r for r in _owned(cluster, "ControllerRevision", found) if r["metadata"]["name"] == name)


def _statefulset(cluster: Cluster, found: Object) -> None:
    spec, meta = found["spec"], found["metadata"]
    update = _revision(cluster, found)
    status = dict(found.get("status", {}))
    current = status.get("currentRevision") or update["metadata"]["name"]
    name, target = meta["name"], update["metadata"]["name"]
    strategy = spec["updateStrategy"]
    partition = (strategy.get("rollingUpdate") or {}).get("partition", 0) if strategy["type"] == "RollingUpdate" else 0
    ordered = spec["podManagementPolicy"] == "OrderedReady"
    pods = {int(p["metadata"]["name"].rpartition("-")[2]): p for p in _pods_of(cluster, found)}
    for number in sorted(pods):
        if number >= spec["replicas"]:
            cluster.drop(pods.pop(number))
            cluster.version += 1
    blocked = False
    for number in range(spec["replicas"]):
        pod = pods.get(number)
        if pod is None:
            of = target if number >= partition and strategy["type"] == "RollingUpdate" else current
            of = target if strategy["type"] == "OnDelete" else of
            template = {
                k: v for k, v in _by_name(cluster, found, of)["data"]["spec"]["template"].items() if k != "$patch"
            }
            made = _make_pod(cluster, found, f"{name}-{number}", template, controller_revision_hash=of)
            made["metadata"]["labels"]["statefulset.kubernetes.io/pod-name"] = f"{name}-{number}"
            pods[number] = pod = made
        if ordered and not _is_ready(pod):
            blocked = True  # kubernetes/kubernetes#67250: also where the pod is of a template that was taken back
            break
    if strategy["type"] == "RollingUpdate" and not blocked:
        for number in sorted(pods, reverse=True):
            pod = pods[number]
            if number >= partition and pod["metadata"]["labels"]["controller-revision-hash"] != target:
                cluster.drop(pod)
                cluster.version += 1
                break
            if not _is_ready(pod):
                break
    alive = _pods_of(cluster, found)
    updated = [p for p in alive if p["metadata"]["labels"]["controller-revision-hash"] == target]
    if len(updated) == spec["replicas"] and all(map(_is_ready, updated)):
        current = target
    told = {
        "observedGeneration": meta["generation"], "replicas": len(alive), "updatedReplicas": len(updated),
        "readyReplicas": sum(map(_is_ready, alive)), "currentRevision": current, "updateRevision": target,
        "availableReplicas": sum(_ready_for(cluster, p, spec.get("minReadySeconds", 0)) for p in alive),
    }  # fmt: skip
    if told != found.get("status"):
        _put(cluster, found, status=told)


def _daemonset(cluster: Cluster, found: Object) -> None:
    spec, update = found["spec"], _revision(cluster, found)
    mark = update["metadata"]["name"].removeprefix(f"{found['metadata']['name']}-")
    pods = {p["spec"]["nodeName"]: p for p in _pods_of(cluster, found)}
    nodes = [n["metadata"]["name"] for n in cluster.all("Node")]
    for node in nodes:
        if node not in pods:
            template = {**spec["template"], "spec": {**spec["template"]["spec"], "nodeName": node}}
            name = f"{found['metadata']['name']}-{_suffix(cluster.version)}"
            pods[node] = _make_pod(cluster, found, name, template, controller_revision_hash=mark)
    old = [p for p in pods.values() if p["metadata"]["labels"]["controller-revision-hash"] != mark]
    if spec["updateStrategy"]["type"] == "RollingUpdate":
        most = max(_count(spec["updateStrategy"]["rollingUpdate"]["maxUnavailable"], len(nodes), up=True), 1)
        seconds = spec.get("minReadySeconds", 0)
        down = sum(not _ready_for(cluster, p, seconds) for p in pods.values())
        for pod in sorted(old, key=_is_ready):
            if _is_ready(pod):
                if down >= most:
                    break
                down += 1
            cluster.drop(pod)
            cluster.version += 1
    alive = _pods_of(cluster, found)
    told = {
        "observedGeneration": found["metadata"]["generation"],
        "desiredNumberScheduled": len(nodes), "currentNumberScheduled": len(alive),
        "updatedNumberScheduled": sum(p["metadata"]["labels"]["controller-revision-hash"] == mark for p in alive),
        "numberReady": sum(map(_is_ready, alive)),
        "numberAvailable": sum(_ready_for(cluster, p, spec.get("minReadySeconds", 0)) for p in alive),
    }  # fmt: skip
    told = {k: v for k, v in told.items() if v != 0}
    if told != found.get("status"):
        _put(cluster, found, status=told)


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
        _put(cluster, pod, status=status, readySince=since, spec=spec)


def _container(cluster: Cluster, pod: Object, container: Object) -> Object:
    image = cluster.image(container["image"])
    base = {"name": container["name"], "image": container["image"], "ready": False, "restartCount": 0}
    if missing := _missing(cluster, pod, container):
        waiting = {"reason": "CreateContainerConfigError", "message": f"{missing} not found"}
        return {**base, "imageID": "", "state": {"waiting": waiting}}
    repository = container["image"].partition("@")[0]
    repository = repository.rpartition(":")[0] if ":" in repository.rpartition("/")[2] else repository
    told = {**base, "imageID": f"{repository}@{image.digest}"}
    match image.starts:
        case "pull_fails":
            waiting = {"reason": "ImagePullBackOff", "message": f'Back-off pulling image "{container["image"]}"'}
            return {**base, "imageID": "", "state": {"waiting": waiting}}
        case "crashes":
            waiting = {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}
            last = {"terminated": {"exitCode": 1, "reason": "Error"}}
            return {**told, "restartCount": 1, "state": {"waiting": waiting}, "lastState": last}
        case "never_ready":
            return {**told, "state": {"running": {}}}
    return {**told, "ready": cluster.clock() - pod["born"] >= image.ready_after, "state": {"running": {}}}


def _missing(cluster: Cluster, pod: Object, container: Object) -> str:
    namespace = pod["metadata"]["namespace"]
    for source in container.get("envFrom", ()):
        for key, resource in (("configMapRef", "configmaps"), ("secretRef", "secrets")):
            if key in source and (resource, namespace, source[key]["name"]) not in cluster.objects:
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
            "conditions": {"ready": _is_ready(pod)},
            "targetRef": {"kind": "Pod", "name": pod["metadata"]["name"], "namespace": meta["namespace"]},
        }
        for pod in cluster.all("Pod", meta["namespace"])
        if _has(pod, selector) and "podIP" in pod["status"]
    ]
    name = f"{meta['name']}-1"
    found = cluster.objects.get(("discovery.k8s.io/endpointslices", meta["namespace"], name))
    if found is None:
        cluster.put({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "name": name, "namespace": meta["namespace"], "ownerReferences": [_owner(service)],
                "labels": {"kubernetes.io/service-name": meta["name"]},
            },
            "endpoints": endpoints,
        })  # fmt: skip
    elif found["endpoints"] != endpoints:
        _put(cluster, found, endpoints=endpoints)

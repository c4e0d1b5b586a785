"""The controllers of Deployments and ReplicaSets: they communicate through the objects only."""

from __future__ import annotations

import hashlib
import json
import math
from typing import TYPE_CHECKING, Any

from tests.apiserver.controllers.objects import Object, has, is_ready, make_pod, owned, owner_of, put, ready_for, suffix

if TYPE_CHECKING:
    from tests.apiserver.cluster import Cluster

_REVISION = "deployment.kubernetes.io/revision"
_HISTORY = f"{_REVISION}-history"
_DESIRED, _MOST = "deployment.kubernetes.io/desired-replicas", "deployment.kubernetes.io/max-replicas"


def hash_of(template: Object) -> str:
    text = json.dumps(template, sort_keys=True)
    return (
        hashlib.sha256(text.encode()).hexdigest()[:10].translate(str.maketrans("0123456789abcdef", "bcdfghjklmnpqrst"))
    )


def count(value: Any, of: int, *, up: bool) -> int:
    if isinstance(value, str):
        share = of * int(value.rstrip("%")) / 100
        return math.ceil(share) if up else math.floor(share)
    return int(value)


def sync_deployment(cluster: Cluster, found: Object) -> None:
    spec, meta = found["spec"], found["metadata"]
    sets = owned(cluster, "ReplicaSet", found)
    new = next((rs for rs in sets if _template(rs) == spec["template"]), None)
    if not spec.get("paused"):
        if new is None:
            new = _new_replicaset(cluster, found, spec["template"])
            sets.append(new)
        _renumber(cluster, found, new, sets)
    if new is not None:
        revision = new["metadata"]["annotations"][_REVISION]
        if (meta.get("annotations") or {}).get(_REVISION) != revision:
            annotations = {**(meta.get("annotations") or {}), _REVISION: revision}
            put(cluster, found, metadata={**meta, "annotations": annotations})
    old = [rs for rs in sets if rs is not new]
    if not spec.get("paused") and new is not None:
        if spec["strategy"]["type"] == "Recreate":
            for rs in old:
                _scale(cluster, found, rs, 0)
            if not any(owned(cluster, "Pod", rs) for rs in old):
                _scale(cluster, found, new, spec["replicas"])
        else:
            _roll(cluster, found, new, old)
        _forget(cluster, found, old)
    elif spec.get("paused"):
        active = [rs for rs in sets if rs["spec"]["replicas"]]
        if len(active) == 1:
            _scale(cluster, found, active[0], spec["replicas"])
    _status(cluster, found, new, sets)


def _renumber(cluster: Cluster, found: Object, new: Object, sets: list[Object]) -> None:
    """Only the current ReplicaSet has the highest number and the current `minReadySeconds`."""
    highest = max(int(rs["metadata"]["annotations"][_REVISION]) for rs in sets)
    before = new["metadata"]["annotations"]
    annotations = {**before, **_copied(found)}
    if int(before[_REVISION]) < highest:
        past = [*filter(None, before.get(_HISTORY, "").split(",")), before[_REVISION]]
        annotations |= {_REVISION: str(highest + 1), _HISTORY: ",".join(past)}
    put(cluster, new, metadata={**new["metadata"], "annotations": annotations})
    seconds = found["spec"].get("minReadySeconds", 0)
    if new["spec"].get("minReadySeconds", 0) != seconds:
        spec = {k: v for k, v in new["spec"].items() if k != "minReadySeconds"}
        put(cluster, new, spec={**spec, **_seconds(found)})


def _seconds(found: Object) -> Object:
    seconds = found["spec"].get("minReadySeconds", 0)
    return {"minReadySeconds": seconds} if seconds else {}  # Go leaves zero out


def _copied(found: Object) -> dict[str, str]:
    """The annotations of a Deployment that its controller copies to the current ReplicaSet."""
    own = ("kubectl.kubernetes.io/last-applied-configuration", _REVISION, _HISTORY, _DESIRED, _MOST)
    return {k: v for k, v in (found["metadata"].get("annotations") or {}).items() if k not in own}


def _sizes(found: Object) -> dict[str, str]:
    spec, surge = found["spec"], 0
    if spec["strategy"]["type"] == "RollingUpdate":
        surge = count(spec["strategy"]["rollingUpdate"]["maxSurge"], spec["replicas"], up=True)
    return {_DESIRED: str(spec["replicas"]), _MOST: str(spec["replicas"] + surge)}


def _template(rs: Object) -> Object:
    template = dict(rs["spec"]["template"])
    labels = {k: v for k, v in template["metadata"]["labels"].items() if k != "pod-template-hash"}
    return {**template, "metadata": {**template["metadata"], "labels": labels}}


def _new_replicaset(cluster: Cluster, found: Object, template: Object) -> Object:
    meta, mark = found["metadata"], hash_of(template)
    labels = {**template["metadata"]["labels"], "pod-template-hash": mark}
    numbers = [int(rs["metadata"]["annotations"][_REVISION]) for rs in owned(cluster, "ReplicaSet", found)]
    selector = {"matchLabels": {**found["spec"]["selector"]["matchLabels"], "pod-template-hash": mark}}
    return cluster.put({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {
            "name": f"{meta['name']}-{mark}", "namespace": meta["namespace"], "labels": labels,
            "annotations": {
                **_copied(found), _REVISION: str(max(numbers, default=0) + 1), **_sizes(found),
            },
            "ownerReferences": [owner_of(found)],
        },
        "spec": {
            "replicas": 0, "selector": selector, **_seconds(found),
            "template": {**template, "metadata": {**template["metadata"], "labels": labels}},
        },
        "status": {"replicas": 0, "observedGeneration": 0},
    })  # fmt: skip


def _scale(cluster: Cluster, found: Object, rs: Object, replicas: int) -> None:
    annotations = rs["metadata"]["annotations"]
    if rs["spec"]["replicas"] or replicas > 0:
        annotations = {**annotations, **_sizes(found)}
    put(
        cluster, rs, metadata={**rs["metadata"], "annotations": annotations},
        spec={**rs["spec"], "replicas": max(replicas, 0)},
    )  # fmt: skip


def _of(rs: Object, field: str) -> int:
    return int(rs.get("status", {}).get(field, 0))


def _roll(cluster: Cluster, found: Object, new: Object, old: list[Object]) -> None:
    spec = found["spec"]
    wanted, rolling = spec["replicas"], spec["strategy"]["rollingUpdate"]
    surge = count(rolling["maxSurge"], wanted, up=True)
    unavailable = count(rolling["maxUnavailable"], wanted, up=False)
    if not surge and not unavailable:
        unavailable = 1
    total = new["spec"]["replicas"] + sum(rs["spec"]["replicas"] for rs in old)
    if new["spec"]["replicas"] > wanted:
        _scale(cluster, found, new, wanted)
        return
    if new["spec"]["replicas"] < wanted and total < wanted + surge:
        _scale(cluster, found, new, min(wanted, new["spec"]["replicas"] + wanted + surge - total))
        return  # everything else waits for the result
    least = wanted - unavailable
    spare = total - least - (new["spec"]["replicas"] - _of(new, "availableReplicas"))
    if spare <= 0:
        return
    for rs in old:  # unavailable pods are removed first
        gone = max(min(rs["spec"]["replicas"] - _of(rs, "availableReplicas"), spare), 0)
        spare -= gone
        _scale(cluster, found, rs, rs["spec"]["replicas"] - gone)
    more = sum(_of(rs, "availableReplicas") for rs in (new, *old)) - least
    for rs in old:
        gone = max(min(rs["spec"]["replicas"], more), 0)
        more -= gone
        _scale(cluster, found, rs, rs["spec"]["replicas"] - gone)


def _forget(cluster: Cluster, found: Object, old: list[Object]) -> None:
    kept = sorted(old, key=lambda rs: int(rs["metadata"]["annotations"][_REVISION]))
    while len(kept) > found["spec"]["revisionHistoryLimit"] and not kept[0]["spec"]["replicas"]:
        cluster.drop(kept.pop(0))


def _status(cluster: Cluster, found: Object, new: Object | None, sets: list[Object]) -> None:
    wanted, before = found["spec"]["replicas"], found.get("status", {})
    total, available, ready = (
        sum(_of(rs, field) for rs in sets) for field in ("replicas", "availableReplicas", "readyReplicas")
    )
    updated = _of(new, "replicas") if new else 0
    status = {
        "observedGeneration": found["metadata"]["generation"],
        "replicas": total, "updatedReplicas": updated, "readyReplicas": ready,
        "availableReplicas": available, "unavailableReplicas": max(total - available, 0),
    }  # fmt: skip
    done = updated == wanted == total == available
    conditions = [_progressing(cluster, found, new, done=done), *_failures(sets, new), _available(found, available)]
    status = {k: v for k, v in status.items() if v != 0} | {"terminatingReplicas": 0}  # Go leaves zero out
    status["conditions"] = _outlived(cluster, found, conditions)
    if status != before:
        put(cluster, found, status=status)


def _available(found: Object, available: int) -> Object:
    spec = found["spec"]
    rolling = spec["strategy"].get("rollingUpdate") or {}
    missing = count(rolling.get("maxUnavailable", 0), spec["replicas"], up=False)
    if available >= spec["replicas"] - missing:
        message, reason = "Deployment has minimum availability.", "MinimumReplicasAvailable"
        return {"type": "Available", "status": "True", "reason": reason, "message": message}
    message, reason = "Deployment does not have minimum availability.", "MinimumReplicasUnavailable"
    return {"type": "Available", "status": "False", "reason": reason, "message": message}


def _progressing(cluster: Cluster, found: Object, new: Object | None, *, done: bool) -> Object:
    # Progress is measured from the last change.
    counts = [_of(new, field) if new else 0 for field in ("replicas", "readyReplicas")]
    observed = [found["metadata"]["generation"], *counts, len(owned(cluster, "ReplicaSet", found))]
    if found.get("progress", {}).get("observed") != observed:
        put(cluster, found, progress={"observed": observed, "at": cluster.clock()})
    late = not done and cluster.clock() - found["progress"]["at"] > found["spec"]["progressDeadlineSeconds"]
    name = new["metadata"]["name"] if new else ""
    if found["spec"].get("paused"):
        made = {"status": "Unknown", "reason": "DeploymentPaused", "message": "Deployment is paused"}
    elif late:
        message = f'ReplicaSet "{name}" has timed out progressing.'
        made = {"status": "False", "reason": "ProgressDeadlineExceeded", "message": message}
    elif done:
        message = f'ReplicaSet "{name}" has successfully progressed.'
        made = {"status": "True", "reason": "NewReplicaSetAvailable", "message": message}
    else:
        made = {"status": "True", "reason": "ReplicaSetUpdated", "message": f'ReplicaSet "{name}" is progressing.'}
    return {"type": "Progressing", **made}


def _failures(sets: list[Object], new: Object | None) -> list[Object]:
    """At most one: of the current ReplicaSet, else of any other."""
    for rs in sorted(sets, key=lambda candidate: candidate is not new):
        for condition in rs.get("status", {}).get("conditions", ()):
            return [condition]
    return []


def _outlived(cluster: Cluster, found: Object, conditions: list[Object]) -> list[Object]:
    """The visible conditions: after a new generation the old ones remain for a while."""
    meta, shown = found["metadata"], found.get("status", {}).get("conditions", [])
    if found.get("observed", {}).get("generation") != meta["generation"]:
        lasting = {"Progressing": cluster.draw(0.13, 0.32), "ReplicaFailure": cluster.draw(0.005, 0.007)}
        now = cluster.clock()
        until = {kind: now + seconds for kind, seconds in lasting.items()}
        put(cluster, found, observed={"generation": meta["generation"], "until": until})
    until = found["observed"]["until"]
    result = []
    for kind in ("Available", "Progressing", "ReplicaFailure"):
        before = next((c for c in shown if c["type"] == kind), None)
        after = next((c for c in conditions if c["type"] == kind), None)
        if before and cluster.lags and cluster.clock() < until.get(kind, 0.0):
            result.append(before)
        elif after is not None:
            result.append(stamped(cluster, before, after))
    return result


def stamped(cluster: Cluster, before: Object | None, after: Object) -> Object:
    """Adds the times, which stay if the condition is equal."""
    times = {"lastUpdateTime": cluster.stamp(), "lastTransitionTime": cluster.stamp()}
    if before and all(before.get(k) == after[k] for k in ("status", "reason", "message")):
        return before
    return {**times, **after}


# --- ReplicaSets ---


def sync_replicaset(cluster: Cluster, rs: Object) -> None:
    wanted_labels = rs["spec"]["selector"]["matchLabels"]
    for pod in owned(cluster, "Pod", rs):
        if not has(pod, wanted_labels):  # released: a label was removed
            meta = {k: v for k, v in pod["metadata"].items() if k != "ownerReferences"}
            put(cluster, pod, metadata=meta)
    for pod in cluster.all("Pod", rs["metadata"]["namespace"]):
        if not pod["metadata"].get("ownerReferences") and has(pod, wanted_labels):
            put(cluster, pod, metadata={**pod["metadata"], "ownerReferences": [owner_of(rs)]})
    pods = owned(cluster, "Pod", rs)
    over = False
    for _ in range(rs["spec"]["replicas"] - len(pods)):
        there = len(cluster.all("Pod", rs["metadata"]["namespace"]))
        if over := cluster.quota is not None and there >= cluster.quota:
            break
        cluster.version += 1
        make_pod(cluster, rs, f"{rs['metadata']['name']}-{suffix(cluster.version)}", rs["spec"]["template"])
    for pod in sorted(pods, key=is_ready)[: max(len(pods) - rs["spec"]["replicas"], 0)]:
        cluster.drop(pod)
    pods, seconds = owned(cluster, "Pod", rs), rs["spec"].get("minReadySeconds", 0)
    labels = rs["spec"]["template"]["metadata"]["labels"]
    counts = {
        "fullyLabeledReplicas": sum(has(pod, labels) for pod in pods), "readyReplicas": sum(map(is_ready, pods)),
        "availableReplicas": sum(ready_for(cluster, pod, seconds) for pod in pods),
    }  # fmt: skip
    status: Object = {
        "observedGeneration": rs["metadata"]["generation"], "replicas": len(pods), "terminatingReplicas": 0,
        **{k: v for k, v in counts.items() if v},
    }  # fmt: skip
    if over:
        message = f'pods "{rs["metadata"]["name"]}-x" is forbidden: exceeded quota: pods, used: pods={cluster.quota}'
        failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message}
        before = next(iter(rs.get("status", {}).get("conditions", ())), None)
        status["conditions"] = [stamped(cluster, before, failure)]
    if status != rs.get("status"):
        put(cluster, rs, status=status)

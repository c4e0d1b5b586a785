"""Shared by all controllers: finds owned objects, creates pods, and stores changed states."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from tests.apiserver.defaults import scheduled

if TYPE_CHECKING:
    from tests.apiserver.cluster import Cluster

Object = dict[str, Any]


def put(cluster: Cluster, found: Object, **changes: Any) -> None:
    """Stores a state if it changed."""
    after = {**found, **changes}
    if after != found:
        after["metadata"] = dict(after["metadata"])
        cluster.put(after, before=found)
        found.update(after)


def owner_of(found: Object) -> Object:
    return {
        "apiVersion": found["apiVersion"], "kind": found["kind"], "name": found["metadata"]["name"],
        "uid": found["metadata"]["uid"], "controller": True, "blockOwnerDeletion": True,
    }  # fmt: skip


def owned(cluster: Cluster, kind: str, owner: Object) -> list[Object]:
    uid = owner["metadata"]["uid"]
    return [
        item
        for item in cluster.all(kind, owner["metadata"]["namespace"])
        if any(ref["uid"] == uid for ref in item["metadata"].get("ownerReferences", ()))
    ]


def is_ready(pod: Object) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod.get("status", {}).get("conditions", ()))


def ready_for(cluster: Cluster, pod: Object, seconds: float) -> bool:
    since = pod.get("readySince")
    return since is not None and cluster.clock() - since >= seconds


def suffix(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()[:5]


def has(found: Object, labels: dict[str, str]) -> bool:
    own = found["metadata"].get("labels") or {}
    return all(own.get(k) == v for k, v in labels.items())


def make_pod(cluster: Cluster, owner: Object, name: str, template: Object, **labels: str) -> Object:
    annotations = template["metadata"].get("annotations")
    return cluster.put({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": owner["metadata"]["namespace"], "ownerReferences": [owner_of(owner)],
            "generateName": f"{owner['metadata']['name']}-", **({"annotations": annotations} if annotations else {}),
            "labels": {**template["metadata"]["labels"], **{k.replace("_", "-"): v for k, v in labels.items()}},
        },
        "spec": scheduled(template["spec"]),
        "status": {"phase": "Pending", "qosClass": "BestEffort"},
        "born": cluster.clock(),
    })  # fmt: skip

"""Whole objects of a cluster, and the short list of what may differ in them."""

from __future__ import annotations

import copy
from typing import Any

from tests.apiserver import Cluster
from tests.apiserver.validation import HIDDEN

BOOKKEEPING = {
    "*/metadata/resourceVersion": "every write changes it, also of the status",
    "*/metadata/generation": "counts the changes of the spec",
    "*/metadata/managedFields": "names the last writer of each field",
    "*/metadata/annotations/deployment.kubernetes.io~1revision": "the restored revision becomes the newest",
    "*/metadata/annotations/deprecated.daemonset.template.generation": "counts the templates of a DaemonSet",
    "*/status": "belongs to the controllers",
}
NOTES = {
    "*/metadata/annotations/kubernetes.io~1change-cause": "the cause of the new revision",
    "*/metadata/annotations/rollback-responder.io~1*": "the execution, and what it changed",
}
DERIVED = ("ReplicaSet", "ControllerRevision", "Pod", "EndpointSlice", "Node")
"""What the controllers make of the rest."""


def state(cluster: Cluster) -> dict[str, Any]:
    """Every object that is not made by a controller."""
    cluster.step()
    found = [item for kind in cluster.objects.values() for item in kind.values() if item["kind"] not in DERIVED]
    shown = copy.deepcopy({f"{item['kind']} {item['metadata']['name']}": item for item in found})
    return {name: {k: v for k, v in item.items() if k not in HIDDEN} for name, item in shown.items()}

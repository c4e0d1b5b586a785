"""Nodes that are not ready. Their pods cannot change until the node returns."""

from __future__ import annotations

import asyncio

from responder.backends.kubernetes.api import AccessDenied
from responder.backends.kubernetes.client import Kubernetes
from responder.backends.kubernetes.objects import Object, condition, counts_of, is_ready
from responder.errors import StepFailed

_MOST = 100
"""Nodes that one plan asks for."""


def node_of(pod: Object) -> str:
    """The node that the pod runs on or, for a pod of a DaemonSet, must run on; empty if unknown."""
    spec = pod.get("spec", {})
    if name := spec.get("nodeName"):
        return str(name)
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    for term in required.get("nodeSelectorTerms") or ():
        for field in term.get("matchFields") or ():
            if field.get("key") == "metadata.name" and len(field.get("values") or ()) == 1:
                return str(field["values"][0])
    return ""


async def is_lost(kube: Kubernetes, node: str) -> bool:
    """Whether the node exists and is not ready. Raises AccessDenied, StepFailed and Unavailable."""
    found = await kube.get("Node", "", node)
    return found is not None and condition(found, "Ready").get("status", "True") != "True"


async def lost(kube: Kubernetes, pods: list[Object]) -> dict[str, str]:
    """The pods on nodes that are not ready, with the node. Only pods that are not ready are looked at.

    Raises AccessDenied, StepFailed and Unavailable.
    """
    where = {pod["metadata"]["name"]: node_of(pod) for pod in pods if not is_ready(pod)}
    nodes = sorted(set(where.values()) - {""})[:_MOST]
    found = dict(zip(nodes, await asyncio.gather(*(is_lost(kube, node) for node in nodes)), strict=True))
    return {pod: node for pod, node in sorted(where.items()) if found.get(node)}


async def lost_if_visible(kube: Kubernetes, pods: list[Object]) -> dict[str, str]:
    """As `lost`; empty without the permission to read nodes."""
    try:
        return await lost(kube, pods)
    except AccessDenied:
        return {}


async def all_but_lost(kube: Kubernetes, workload: Object, pods: list[Object], updated: list[Object]) -> bool:
    """Whether all pods of a DaemonSet or StatefulSet are updated and available, except on nodes that are not ready.

    Raises StepFailed and Unavailable.
    """
    good = [pod for pod in updated if is_ready(pod)]
    missing = [pod for pod in pods if pod not in good]
    if not good or any(map(is_ready, missing)):
        return False
    nodes = await _nodes_if_all_lost(kube, missing)
    desired, available = counts_of(workload)
    return bool(nodes) and min(len(good), available) >= desired - len(nodes)


async def _nodes_if_all_lost(kube: Kubernetes, pods: list[Object]) -> set[str]:
    """The nodes of these pods if none of them is ready; else empty, also without the permission to read nodes."""
    nodes = {node_of(pod) for pod in pods}
    if "" in nodes:
        return set()
    try:
        for node in sorted(nodes):  # mostly, the first one is ready
            if not await is_lost(kube, node):
                return set()
    except AccessDenied:
        return set()
    return nodes


async def notes_on_nodes(kube: Kubernetes, workload: Object, pods: list[Object]) -> tuple[str, ...]:
    """What a plan says about pods of a DaemonSet or StatefulSet on nodes that are not ready.

    Raises StepFailed for an ordered StatefulSet, whose controller changes no pod then, and Unavailable.
    """
    what = f"{workload['kind']} {workload['metadata']['namespace']}/{workload['metadata']['name']}"
    ordered = workload["kind"] == "StatefulSet" and workload["spec"].get("podManagementPolicy") != "Parallel"
    try:
        found = await lost(kube, pods)
    except AccessDenied:
        return (f"whether the pods of {what} that are not ready are on failed nodes is unknown: permission denied",)
    listed = ", ".join(f"{pod} on {node}" for pod, node in found.items())
    if listed and ordered:
        raise StepFailed(
            f"{what} cannot be rolled back, because its controller waits for pods on nodes that are not ready: "
            f"{listed} (remove the node from the cluster, or delete the pod with --force if the node is off)"
        )
    return (f"{what}: pods on nodes that are not ready are left out: {listed}",) if listed else ()

"""An instant kubelet, and the controller of EndpointSlices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apiserver.controllers.objects import Object, has, is_ready, owned, owner_of, put, suffix

if TYPE_CHECKING:
    from tests.apiserver.cluster import Cluster


def sync_pod(cluster: Cluster, pod: Object) -> None:
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


def sync_endpoints(cluster: Cluster, service: Object) -> None:
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

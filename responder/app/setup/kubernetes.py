"""Services of a Kubernetes namespace."""

from __future__ import annotations

from typing import Any

from responder.app.setup.found import FoundService, FoundServices
from responder.backends.kubernetes.client import Kubernetes
from responder.backends.kubernetes.objects import Object

_KINDS = ("Deployment", "StatefulSet", "DaemonSet")


async def read_namespace(kube: Kubernetes, namespace: str) -> FoundServices:
    """The workloads of a namespace. Raises what the client raises."""
    services = await kube.list("Service", namespace)
    found, left_out = list[FoundService](), dict[str, str]()
    for kind in _KINDS:
        for workload in await kube.list(kind, namespace):
            name = workload["metadata"]["name"]
            if owner := next(iter(workload["metadata"].get("ownerReferences", ())), None):
                left_out[name] = f"{owner['kind']} {owner['name']} controls it: roll that back"
            else:
                found.append(_service(namespace, name, kind, workload, services))
    return FoundServices(tuple(found), left_out)


def _service(namespace: str, name: str, kind: str, workload: Object, services: list[Object]) -> FoundService:
    where = {"namespace": namespace, kind.lower(): name}
    rollback: dict[str, Any] = {"strategy": "rolling", "kubernetes": where, "batch_size": 1, "batch_delay": "30s"}
    labels = workload["spec"]["selector"].get("matchLabels") or {}
    replicas = workload["spec"].get("replicas", 1)
    checks = ({"pods": {"namespace": namespace, "labels": labels, "at_least": max(1, replicas)}},) if labels else ()
    return FoundService(name, rollback, _health_url(namespace, workload, services), checks)


def _health_url(namespace: str, workload: Object, services: list[Object]) -> str:
    """The URL of the readiness probe, by the Service that selects the pods; empty if there is none."""
    template = workload["spec"]["template"]
    labels = template["metadata"].get("labels") or {}
    for container in template["spec"]["containers"]:
        probe = (container.get("readinessProbe") or {}).get("httpGet")
        if not probe:
            continue
        names = {port.get("name"): port["containerPort"] for port in container.get("ports") or ()}
        number = names.get(probe["port"], probe["port"])
        for service in services:
            selector = service["spec"].get("selector") or {}
            if not selector or not selector.items() <= labels.items():
                continue
            for port in service["spec"].get("ports") or ():
                target = port.get("targetPort", port["port"])
                if number == names.get(target, target):
                    scheme = probe.get("scheme", "HTTP").lower()
                    host = f"{service['metadata']['name']}.{namespace}"
                    return f"{scheme}://{host}:{port['port']}{probe.get('path', '/')}"
    return ""

"""A cluster for the drills: what runs there, what the resources set, and another user with kubectl."""

from __future__ import annotations

from typing import Any

from responder.backends.kubernetes.gitops import Reconciliation
from responder.backends.kubernetes.workload import Workload
from responder.backends.resource import Resource
from tests.apiserver import Cluster
from tests.apiserver.client import InProcess
from tests.apiserver.controllers.autoscaling import autoscale

_WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet")
_FLUX = "kustomize.toolkit.fluxcd.io/reconcile"
_KEPT = "rollback-responder.io/kept"
TRAFFIC = 2
"""Pods that the load requires where the traffic goes; elsewhere there is no load."""


def catch_up(cluster: Cluster) -> None:
    """The actions of the controllers."""
    cluster.step()
    if cluster.all("HorizontalPodAutoscaler"):
        (service,) = cluster.all("Service")
        autoscale(cluster, lambda name: TRAFFIC if name.endswith(service["spec"]["selector"]["color"]) else 0)
        cluster.step()


def state(cluster: Cluster) -> dict[str, Any]:
    """What runs, its rollout settings, where traffic goes, and other controllers."""
    catch_up(cluster)
    found: dict[str, Any] = {}
    for kind in _WORKLOADS:
        for item in cluster.all(kind):
            name, spec = item["metadata"]["name"], item["spec"]
            found[name] = _images(cluster, item), spec.get("replicas")
            how = spec.get("strategy") or spec["updateStrategy"]
            found[f"{name} rolls"] = how, spec.get("minReadySeconds", 0), spec.get("paused", False)
            found[f"{name} reconciled"] = _annotation(item, _FLUX)
    for item in cluster.all("Service"):
        found[f"service {item['metadata']['name']}"] = item["spec"]["selector"]
    for item in cluster.all("HorizontalPodAutoscaler"):
        found[f"autoscaler {item['metadata']['name']}"] = item["spec"].get("minReplicas", 1)
    for item in cluster.all("Application"):
        found[f"application {item['metadata']['name']}"] = item["spec"]["syncPolicy"]["automated"].get("enabled", True)
    return found


def _images(cluster: Cluster, workload: dict[str, Any]) -> str:
    """The image of its template, and those of its pods if they differ."""
    spec = workload["spec"]
    labels = spec["selector"]["matchLabels"].items()
    pods = [p for p in cluster.all("Pod", "shop") if labels <= p["metadata"]["labels"].items()]
    return " and ".join(sorted({_image(part["spec"]) for part in (spec["template"], *pods)}))


def _image(pod: dict[str, Any]) -> str:
    return str(pod["containers"][0]["image"])


def _annotation(found: dict[str, Any], name: str) -> str | None:
    value: str | None = (found["metadata"].get("annotations") or {}).get(name)
    return value


def written(cluster: Cluster) -> Any:
    kinds = (*_WORKLOADS, "Service", "HorizontalPodAutoscaler", "Application")
    marks = [
        (_annotation(workload, _KEPT), _annotation(workload, _FLUX))
        for kind in _WORKLOADS
        for workload in cluster.all(kind)
    ]
    return [{**workload["spec"]} for kind in kinds for workload in cluster.all(kind)], marks


async def meddle(cluster: Cluster, resource: Resource) -> Any:
    """Sets a resource to a value of someone else, and returns it. None: there is no such value now."""
    kube = InProcess(cluster)
    before = await resource.read(kube)
    fields = resource.model_dump()
    found = cluster.get(*_where(fields, resource))
    match fields["resource"]:
        case "pod_template":
            _set_image(cluster, found)
        case "rollout_paused":
            _set_image(cluster, found)  # this would resume another rollout
            return before
        case "rollout_settings":
            edit(cluster, found, minReadySeconds=77)
        case "partition":
            edit(cluster, found, updateStrategy={"type": "RollingUpdate", "rollingUpdate": {"partition": 77}})
        case "replicas":
            # With an autoscaler, any number except zero may be its choice.
            edit(cluster, found, replicas=0 if fields["autoscaled"] else 7)
        case "autoscaler_floor":
            edit(cluster, found, minReplicas=7)
        case "service_selector":
            edit(cluster, found, selector={**found["spec"]["selector"], "color": "purple"})
        case "kept_pods":
            _annotate(cluster, found, _KEPT, "other")
        case "reconciliation" if found["kind"] == "Application":
            edit(cluster, found, syncPolicy={"automated": {"selfHeal": True}})
        case "reconciliation":
            _annotate(cluster, found, _FLUX, "enabled")
        case other:
            raise AssertionError(f"no foreign change is defined for {other}")
    cluster.step()
    now = await resource.read(kube)
    return None if resource.equivalent(now, before) else now


def _where(fields: dict[str, Any], resource: Resource) -> tuple[str, str, str]:
    if isinstance(resource, Workload | Reconciliation):
        return resource.kind, resource.namespace, resource.name
    kind, key = ("Service", "service") if "service" in fields else ("HorizontalPodAutoscaler", "autoscaler")
    return kind, fields["namespace"], fields[key]


def _set_image(cluster: Cluster, found: dict[str, Any]) -> None:
    pods = found["spec"]["template"]
    hotfix = {**pods, "spec": {**pods["spec"], "containers": [{"name": "app", "image": "shop:hotfix"}]}}
    edit(cluster, found, template=hotfix)


def _annotate(cluster: Cluster, found: dict[str, Any], name: str, value: str) -> None:
    annotations = {**(found["metadata"].get("annotations") or {}), name: value}
    cluster.put({**found, "metadata": {**found["metadata"], "annotations": annotations}}, before=found)


def edit(cluster: Cluster, found: dict[str, Any], **spec: Any) -> None:
    after = {**found, "metadata": dict(found["metadata"]), "spec": {**found["spec"], **spec}}
    cluster.put(after, before=found)

"""What the API server adds to an object when it stores it."""

from __future__ import annotations

import base64
from typing import Any

Object = dict[str, Any]

_PROBE = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
_POD = {"dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler",
        "terminationGracePeriodSeconds": 30}  # fmt: skip
_SERVICE = {
    "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "internalTrafficPolicy": "Cluster", "ipFamilies": ["IPv4"],
    "ipFamilyPolicy": "SingleStack", "sessionAffinity": "None", "type": "ClusterIP",
}  # fmt: skip
_CPU: Object = {
    "type": "Resource",
    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
}


def _set(found: Object, **values: Any) -> None:
    for key, value in values.items():
        found.setdefault(key, value)


def default(made: Object) -> None:
    match made["kind"]:
        case "Deployment":
            _default_deployment(_workload(made))
            made.setdefault("status", {})
        case "StatefulSet":
            _default_statefulset(_workload(made))
            made.setdefault("status", {"replicas": 0, "availableReplicas": 0})
        case "DaemonSet":
            _default_daemonset(made, _workload(made))
        case "Service":
            _default_service(made)
        case "Secret":
            made["data"] = {
                **(made.get("data") or {}),
                **{k: base64.b64encode(v.encode()).decode() for k, v in made.pop("stringData", {}).items()},
            }
            _set(made, type="Opaque")
        case "HorizontalPodAutoscaler":
            _set(made["spec"], minReplicas=1, metrics=[_CPU])
            _set(made, status={"currentMetrics": None, "desiredReplicas": 0})


def _workload(made: Object) -> Object:
    spec: Object = made.setdefault("spec", {})
    if isinstance(template := spec.get("template"), dict):
        default_pod(template.setdefault("spec", {}))
    return spec


def _default_deployment(spec: Object) -> None:
    _set(spec, replicas=1, revisionHistoryLimit=10, progressDeadlineSeconds=600)
    _default_strategy(spec, "strategy", {"maxUnavailable": "25%", "maxSurge": "25%"})
    for key in ("paused", "minReadySeconds"):  # Go leaves zero out
        if not spec.get(key):
            spec.pop(key, None)


def _default_statefulset(spec: Object) -> None:
    _set(spec, replicas=1, revisionHistoryLimit=10, podManagementPolicy="OrderedReady", serviceName="")
    retained = spec.setdefault("persistentVolumeClaimRetentionPolicy", {})
    _set(retained, whenDeleted="Retain", whenScaled="Retain")
    _default_strategy(spec, "updateStrategy", {"partition": 0})


def _default_daemonset(made: Object, spec: Object) -> None:
    _set(spec, revisionHistoryLimit=10)
    _default_strategy(spec, "updateStrategy", {"maxUnavailable": 1, "maxSurge": 0})
    if not spec.get("minReadySeconds"):
        spec.pop("minReadySeconds", None)
    names = ("currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady")
    _set(made, status=dict.fromkeys(names, 0))


def _default_strategy(spec: Object, key: str, rolling: Object) -> None:
    kind = (spec.get(key) or {}).get("type", "RollingUpdate")
    found = {"type": kind, **(spec.get(key) or {})}
    if kind == "RollingUpdate":
        given = found.get("rollingUpdate") or {}
        found["rollingUpdate"] = {**{name: given.get(name, value) for name, value in rolling.items()}, **given}
    spec[key] = found


def _default_service(made: Object) -> None:
    spec = made.setdefault("spec", {})
    _set(spec, **_SERVICE)
    for port in spec.get("ports", ()):
        _set(port, protocol="TCP", targetPort=port["port"])
    _set(made, status={"loadBalancer": {}})


def default_pod(spec: Object) -> None:
    """The defaults of a pod template."""
    _set(spec, **_POD, securityContext={})
    for container in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ())):
        _default_container(container)
    for volume in spec.get("volumes") or ():
        for source in ("configMap", "secret"):
            if source in volume:
                _set(volume[source], defaultMode=420)


def _default_container(container: Object) -> None:
    image = str(container.get("image", ""))
    tag = image.rpartition("/")[2].partition("@")[0].rpartition(":")
    newest = "@" not in image and (not tag[1] or tag[2] == "latest")
    _set(container, imagePullPolicy="Always" if newest else "IfNotPresent", resources={})
    _set(container, terminationMessagePath="/dev/termination-log", terminationMessagePolicy="File")
    for port in container.get("ports") or ():
        _set(port, protocol="TCP")
    for probe in ("readinessProbe", "livenessProbe", "startupProbe"):
        if probe in container:
            _set(container[probe], **_PROBE)


_LOST = [("node.kubernetes.io/not-ready", 300), ("node.kubernetes.io/unreachable", 300)]


def scheduled(spec: Object) -> Object:
    """The spec of a created pod: as admission completes it."""
    spec = dict(spec)
    tolerations = [
        {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}
        for key, seconds in _LOST
        if not any(t.get("key") == key for t in spec.get("tolerations") or ())
    ]
    spec["tolerations"] = [*(spec.get("tolerations") or ()), *tolerations]
    _set(spec, enableServiceLinks=True, preemptionPolicy="PreemptLowerPriority", priority=0)
    return spec

"""Defaults and validation of the API server: 400 for an undecodable object, 422 for an invalid one."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]

HIDDEN = ("born", "readySince", "progress", "observed")
"""Internal fields of the stand-in."""
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet")
REASONS = {400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "Conflict", 410: "Expired",
           415: "UnsupportedMediaType", 422: "Invalid"}  # fmt: skip

_TYPES: dict[str, Any] = {
    "replicas": int, "revisionHistoryLimit": int, "progressDeadlineSeconds": int, "minReadySeconds": int,
    "paused": bool, "selector": dict, "template": dict, "strategy": dict, "updateStrategy": dict,
    "serviceName": str, "podManagementPolicy": str, "volumeClaimTemplates": list, "ordinals": dict,
    "persistentVolumeClaimRetentionPolicy": dict,
}  # fmt: skip
_POD_TYPES: dict[str, Any] = {
    "containers": list, "initContainers": list, "volumes": list, "nodeName": str, "serviceAccountName": str,
    "restartPolicy": str, "terminationGracePeriodSeconds": int, "nodeSelector": dict, "tolerations": list,
    "affinity": dict, "imagePullSecrets": list, "securityContext": dict, "hostNetwork": bool, "dnsPolicy": str,
    "schedulerName": str, "priorityClassName": str, "topologySpreadConstraints": list,
}  # fmt: skip
_CONTAINER_TYPES: dict[str, Any] = {
    "name": str, "image": str, "command": list, "args": list, "env": list, "envFrom": list, "ports": list,
    "resources": dict, "volumeMounts": list, "readinessProbe": dict, "livenessProbe": dict, "startupProbe": dict,
    "lifecycle": dict, "securityContext": dict, "imagePullPolicy": str, "workingDir": str, "stdin": bool, "tty": bool,
    "terminationMessagePath": str, "terminationMessagePolicy": str,
}  # fmt: skip


class Failed(Exception):
    """A Status answer with a failure."""

    def __init__(self, code: int, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.reason = code, message, reason or REASONS[code]


def default(made: Object) -> None:
    """Sets the defaults of the API server."""
    spec = made.setdefault("spec", {}) if made["kind"] in (*WORKLOADS, "Service", "Pod") else made.get("spec", {})
    made["metadata"].setdefault("annotations", {}) if made["kind"] == "Deployment" else None
    match made["kind"]:
        case "Deployment":
            for key, value in (("replicas", 1), ("revisionHistoryLimit", 10), ("progressDeadlineSeconds", 600)):
                spec.setdefault(key, value)
            _default_strategy(spec, "strategy", {"maxSurge": "25%", "maxUnavailable": "25%"})
            if not spec.get("paused"):
                spec.pop("paused", None)
        case "StatefulSet":
            more: dict[str, Any] = {"replicas": 1, "revisionHistoryLimit": 10, "podManagementPolicy": "OrderedReady"}
            for key, value in more.items():
                spec.setdefault(key, value)
            _default_strategy(spec, "updateStrategy", {"partition": 0})
        case "DaemonSet":
            spec.setdefault("revisionHistoryLimit", 10)
            _default_strategy(spec, "updateStrategy", {"maxSurge": 0, "maxUnavailable": 1})
    if made["kind"] in ("Deployment", "DaemonSet") and not spec.get("minReadySeconds"):
        spec.pop("minReadySeconds", None)  # Go leaves zero out


def _default_strategy(spec: Object, key: str, rolling: Object) -> None:
    spec.setdefault(key, {"type": "RollingUpdate"})
    if spec[key].setdefault("type", "RollingUpdate") == "RollingUpdate":
        spec[key]["rollingUpdate"] = {**rolling, **(spec[key].get("rollingUpdate") or {})}


def decode(made: Object, *, strict: bool, code: int = 400) -> None:
    """Raises `Failed` if the object does not match its type. `strict`: also for an unknown field."""
    if made["kind"] not in WORKLOADS:
        return
    spec = made.get("spec")
    template = spec.get("template") if isinstance(spec, dict) else None
    pods = template.get("spec") if isinstance(template, dict) else None
    parts: list[tuple[str, Any, dict[str, Any]]] = [("spec", spec, _TYPES), ("spec.template.spec", pods, _POD_TYPES)]
    if isinstance(pods, dict) and isinstance(containers := pods.get("containers"), list):
        parts += [
            (f"spec.template.spec.containers[{n}]", container, _CONTAINER_TYPES)
            for n, container in enumerate(containers)
        ]
    unknown = [key for key in made if key not in ("apiVersion", "kind", "metadata", "spec", "status", *HIDDEN)]
    for path, part, types in parts:
        for key, value in part.items() if isinstance(part, dict) else ():
            if key not in types:
                unknown.append(f"{path}.{key}")
            elif not isinstance(value, types[key]) or (types[key] is int and isinstance(value, bool)):
                found = type(value).__name__
                message = f"json: cannot unmarshal {found} into Go struct field of {path}.{key}"
                raise Failed(code, f"{made['kind']} in version v1 cannot be handled as a {made['kind']}: {message}")
    if strict and unknown:
        message = ", ".join(f'unknown field "{field}"' for field in unknown)
        raise Failed(400, f"strict decoding error: {message}")
    for key in ("selector", "template"):
        if not isinstance(spec, dict) or key not in spec:
            raise Failed(400, f"{made['kind']} in version v1 cannot be handled: spec.{key}: Required value")


def validate(made: Object, before: Object | None) -> None:
    """Raises `Failed` if a decoded workload is invalid."""
    kind, name = made["kind"], made["metadata"].get("name")
    if kind not in WORKLOADS:
        return
    spec = made["spec"]

    def invalid(path: str, why: str) -> Failed:
        return Failed(422, f'{kind}.apps "{name}" is invalid: {path}: {why}')

    if before is not None and spec["selector"] != before["spec"]["selector"]:
        raise invalid("spec.selector", "Invalid value: field is immutable")
    if not (spec["template"].get("spec") or {}).get("containers"):
        raise invalid("spec.template.spec.containers", "Required value")
    labels = (spec["template"].get("metadata") or {}).get("labels") or {}
    if any(labels.get(k) != v for k, v in (spec["selector"].get("matchLabels") or {}).items()):
        raise invalid("spec.template.metadata.labels", "Invalid value: `selector` does not match template `labels`")
    if kind == "Deployment":
        if spec.get("minReadySeconds", 0) >= spec["progressDeadlineSeconds"]:
            raise invalid("spec.progressDeadlineSeconds", "Invalid value: must be greater than minReadySeconds")
        rolling = spec["strategy"].get("rollingUpdate")
        if spec["strategy"]["type"] == "Recreate" and rolling:
            raise invalid(
                "spec.strategy.rollingUpdate", "Forbidden: may not be specified when strategy `type` is 'Recreate'"
            )
    else:
        rolling = spec["updateStrategy"].get("rollingUpdate") if kind == "DaemonSet" else None
    if rolling and rolling["maxSurge"] in (0, "0%") and rolling["maxUnavailable"] in (0, "0%"):
        raise invalid("spec.strategy.rollingUpdate.maxUnavailable", "Invalid value: may not be 0 when `maxSurge` is 0")

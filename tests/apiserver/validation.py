"""Validation of the API server: 400 for an undecodable object, 422 for an invalid one."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Iterator
from typing import Any

from tests.apiserver.answers import Failed, invalid, invalid_patch

Object = dict[str, Any]
Found = Iterator[tuple[str, str]]
"""Fields and what is wrong with them."""

HIDDEN = ("born", "readySince", "progress", "observed")
"""Internal fields of the stand-in."""
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet")

_TYPES: dict[str, Any] = {
    "replicas": int, "revisionHistoryLimit": int, "progressDeadlineSeconds": int, "minReadySeconds": int,
    "paused": bool, "selector": dict, "template": dict, "strategy": dict, "updateStrategy": dict,
    "serviceName": str, "podManagementPolicy": str, "volumeClaimTemplates": list, "ordinals": dict,
    "persistentVolumeClaimRetentionPolicy": dict,
}  # fmt: skip
_POD_TYPES: dict[str, Any] = {
    "containers": list, "initContainers": list, "volumes": list, "nodeName": str, "serviceAccountName": str,
    "serviceAccount": str, "restartPolicy": str, "terminationGracePeriodSeconds": int, "nodeSelector": dict,
    "tolerations": list, "affinity": dict, "imagePullSecrets": list, "securityContext": dict, "hostNetwork": bool,
    "dnsPolicy": str, "schedulerName": str, "priorityClassName": str, "topologySpreadConstraints": list,
    "automountServiceAccountToken": bool, "hostPID": bool, "hostIPC": bool, "activeDeadlineSeconds": int,
    "enableServiceLinks": bool, "shareProcessNamespace": bool, "hostAliases": list, "dnsConfig": dict,
    "runtimeClassName": str, "subdomain": str, "hostname": str, "readinessGates": list, "os": dict,
    "fieldOfTomorrow": dict,  # a field that the server knows and clients do not
}  # fmt: skip
_CONTAINER_TYPES: dict[str, Any] = {
    "name": str, "image": str, "command": list, "args": list, "env": list, "envFrom": list, "ports": list,
    "resources": dict, "volumeMounts": list, "readinessProbe": dict, "livenessProbe": dict, "startupProbe": dict,
    "lifecycle": dict, "securityContext": dict, "imagePullPolicy": str, "workingDir": str, "stdin": bool, "tty": bool,
    "terminationMessagePath": str, "terminationMessagePolicy": str, "restartPolicy": str, "stdinOnce": bool,
    "volumeDevices": list, "resizePolicy": list,
}  # fmt: skip
_GO = {int: "int32", bool: "bool", str: "string", list: "[]v1.", dict: "v1."}
_JSON = {str: "string", dict: "object", list: "array", bool: "bool", int: "number", float: "number"}
_BASE64 = set(string.ascii_letters + string.digits + "+/")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def _parts(made: Object) -> Iterator[tuple[str, str, Any, dict[str, Any]]]:
    """Go type, path, value and the types of its fields."""
    spec = made.get("spec")
    template = spec.get("template") if isinstance(spec, dict) else None
    pods = template.get("spec") if isinstance(template, dict) else None
    yield f"{made['kind']}Spec", "spec", spec, _TYPES
    yield "PodSpec", "spec.template.spec", pods, _POD_TYPES
    containers = pods.get("containers") if isinstance(pods, dict) else None
    for n, container in enumerate(containers if isinstance(containers, list) else ()):
        yield "Container", f"spec.template.spec.containers[{n}]", container, _CONTAINER_TYPES


def decode(made: Object, *, strict: bool, patch: bool = False) -> None:
    """Removes unknown fields. Raises `Failed` if the object does not match its type, or for them if `strict`."""
    for value in (made.get("data") or {}).values() if made["kind"] == "Secret" else ():
        text = value.rstrip("=")
        at = next((n for n, char in enumerate(text) if char not in _BASE64), len(value) // 4 * 4)
        if len(text) > at or len(value) % 4:
            raise _undecodable(made, f"illegal base64 data at input byte {at}", patch=patch)
    if made["kind"] not in WORKLOADS:
        return
    unknown = []
    for go, path, part, types in _parts(made):
        for key, value in list(part.items()) if isinstance(part, dict) else ():
            if key not in types:
                unknown.append(f"{path}.{key}")
                del part[key]
            elif value is not None and not _fits(value, types[key]):
                plain = re.sub(r"\[\d+\]", "", path)
                wanted = _GO[types[key]] + ("Container" if key == "containers" else "")
                field = f"Go struct field {go}.{plain}.{key} of type {wanted}"
                raise _undecodable(made, f"json: cannot unmarshal {_JSON[type(value)]} into {field}", patch=patch)
    for key in set(made) - {"apiVersion", "kind", "metadata", "spec", "status", *HIDDEN}:
        unknown.append(key)
        del made[key]
    if strict and unknown:
        why = ", ".join(f'unknown field "{field}"' for field in unknown)
        raise _undecodable(made, f"strict decoding error: {why}", patch=patch)


def _fits(value: Any, wanted: type) -> bool:
    return isinstance(value, wanted) and not (wanted is int and isinstance(value, bool))


def _undecodable(made: Object, why: str, *, patch: bool) -> Failed:
    kind = made["kind"]
    return invalid_patch(why) if patch else Failed(400, f'{kind} in version "v1" cannot be handled as a {kind}: {why}')


def validate(made: Object, before: Object | None, group: str) -> None:
    """Raises `Failed` if a decoded object is invalid."""
    found = list(_problems(made, before))
    if found:
        raise invalid(made["kind"], group, made["metadata"].get("name", ""), found)


_FIXED_SELECTOR = ("Deployment", "DaemonSet")


def _problems(made: Object, before: Object | None) -> Found:
    yield from _metadata(made["metadata"], before)
    spec = made.get("spec") or {}
    match made["kind"]:
        case "Deployment":
            yield from _selector(spec)
            yield from _template(spec)
            yield from _deployment(spec)
        case "DaemonSet":
            yield from _selector(spec)
            yield from _template(spec)
            rolling = spec["updateStrategy"].get("rollingUpdate") or {}
            if rolling and _zero(rolling["maxSurge"]) and _zero(rolling["maxUnavailable"]):
                path = "spec.updateStrategy.rollingUpdate.maxUnavailable"
                yield path, "Required value: cannot be 0 when maxSurge is 0"
        case "StatefulSet":
            yield from _selector(spec)
            yield from _template(spec)
            yield from _statefulset(spec, before)
        case "HorizontalPodAutoscaler":
            if spec["maxReplicas"] < spec["minReplicas"]:
                most = spec["maxReplicas"]
                yield "spec.maxReplicas", f"Invalid value: {most}: must be greater than or equal to `minReplicas`"
    fixed = before["spec"].get("selector") if before is not None and made["kind"] in _FIXED_SELECTOR else None
    if fixed is not None and spec.get("selector") != fixed:
        shown = json.dumps(spec.get("selector"), separators=(",", ":"))
        yield "spec.selector", f"Invalid value: {shown}: field is immutable"


def _metadata(meta: Object, before: Object | None) -> Found:
    name = meta.get("name")
    if not name:
        yield "metadata.name", "Required value: name or generateName is required"
    elif not _NAME.fullmatch(name):
        what = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.'"
        more = "and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is"
        yield "metadata.name", f"Invalid value: \"{name}\": {what}, {more} '{_NAME.pattern}')"
    if before is not None and meta.get("uid", before["metadata"]["uid"]) != before["metadata"]["uid"]:
        for _ in range(2):  # the real server checks it twice
            yield "metadata.uid", f'Invalid value: "{meta["uid"]}": field is immutable'


def _selector(spec: Object) -> Found:
    if spec.get("selector") is None:
        yield "spec.selector", "Required value"
    replicas = spec.get("replicas", 0)
    if replicas < 0:
        yield "spec.replicas", f"Invalid value: {replicas}: must be greater than or equal to 0"


def _template(spec: Object) -> Found:
    template = spec.get("template") or {}
    labels = (template.get("metadata") or {}).get("labels")
    wanted = (spec.get("selector") or {}).get("matchLabels") or {}
    if spec.get("selector") is None or any((labels or {}).get(k) != v for k, v in wanted.items()):
        shown = json.dumps(labels, separators=(",", ":"))
        message = f"Invalid value: {shown}: `selector` does not match template `labels`"
        yield "spec.template.metadata.labels", message
    pods = template.get("spec") or {}
    if not pods.get("containers"):
        yield "spec.template.spec.containers", "Required value"
    for n, container in enumerate(pods.get("containers") or ()):
        for key in ("name", "image"):
            if not container.get(key):
                yield f"spec.template.spec.containers[{n}].{key}", "Required value"
    if pods.get("restartPolicy", "Always") != "Always":
        shown = json.dumps(pods["restartPolicy"])
        yield "spec.template.spec.restartPolicy", f'Unsupported value: {shown}: supported values: "Always"'


def _deployment(spec: Object) -> Found:
    path, rolling = "spec.strategy.rollingUpdate", spec["strategy"].get("rollingUpdate")
    if spec["strategy"]["type"] == "Recreate":
        if rolling:
            yield path, "Forbidden: may not be specified when strategy `type` is 'Recreate'"
    elif rolling:
        if _zero(rolling["maxSurge"]) and _zero(rolling["maxUnavailable"]):
            yield f"{path}.maxUnavailable", "Invalid value: 0: may not be 0 when `maxSurge` is 0"
        if isinstance(most := rolling["maxUnavailable"], str) and int(most.rstrip("%")) > 100:
            yield f"{path}.maxUnavailable", f'Invalid value: "{most}": must not be greater than 100%'
    deadline = spec["progressDeadlineSeconds"]
    if spec.get("minReadySeconds", 0) >= deadline:
        yield "spec.progressDeadlineSeconds", f"Invalid value: {deadline}: must be greater than minReadySeconds"


_CHANGEABLE = ("replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit",
               "persistentVolumeClaimRetentionPolicy", "minReadySeconds")  # fmt: skip


def _statefulset(spec: Object, before: Object | None) -> Found:
    old = before["spec"] if before is not None else spec
    if any(spec.get(key) != old.get(key) for key in {*spec, *old} - {*_CHANGEABLE}):
        *first, last = (f"'{key}'" for key in _CHANGEABLE)
        fields = f"{', '.join(first)} and {last}"
        yield "spec", f"Forbidden: updates to statefulset spec for fields other than {fields} are forbidden"


def _zero(value: Any) -> bool:
    return value in (0, "0%")

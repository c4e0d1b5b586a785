"""The records of `kubectl apply`: what the next apply does with a template that a rollback restored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from responder.backends.kubernetes.objects import Object

_RECORD = "kubectl.kubernetes.io/last-applied-configuration"
_MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "ports": "containerPort",
    "imagePullSecrets": "name",
    "hostAliases": "ip",
}
"""Lists that a strategic merge merges by item; it replaces all others."""
_SHOWN = 10
_FORCE = ("argocd-controller", "kustomize-controller", "helm-controller")
"""Managers that apply with force, so that nothing conflicts."""


def notes_on_apply(workload: Object, what: str, template: Object) -> tuple[str, ...]:
    """What a plan that restores this template says about the next `kubectl apply`."""
    live = workload["spec"]["template"]
    notes = []
    kept = list(_kept(template, live, _applied(workload)))
    if kept:
        more = f" and {len(kept) - _SHOWN} more" if len(kept) > _SHOWN else ""
        notes.append(
            f"{what}: {_RECORD} describes the bad version, so the next client-side kubectl apply keeps what the good "
            f"version has and that record lacks: {', '.join(kept[:_SHOWN])}{more} (remove it by hand, if the new "
            "manifest lacks it)"
        )
    if appliers := sorted(set(_appliers(workload))):
        notes.append(
            f"{what}: the next server-side apply by {', '.join(appliers)} conflicts with the values of the rollback "
            "(use --force-conflicts)"
        )
    return tuple(notes)


def _applied(workload: Object) -> Any:
    """The template that was last applied; None without a record."""
    record = (workload["metadata"].get("annotations") or {}).get(_RECORD)
    try:
        found = json.loads(record) if record else None
        return found["spec"]["template"] if found else None
    except (ValueError, KeyError, TypeError):
        return None


def _kept(good: Any, live: Any, applied: Any, path: str = "") -> Iterator[str]:
    """The parts of the good template that the record lacks, so that an apply does not remove them.

    Items of lists are nobody's defaults. A field that both templates have may be one, so it is left out.
    """
    if not isinstance(applied, dict) or not isinstance(good, dict):
        return
    live = live if isinstance(live, dict) else {}
    for key, value in good.items():
        at = f"{path}.{key}" if path else key
        merge_key = _MERGE_KEYS.get(key)
        if key in applied and merge_key and isinstance(value, list):
            mine, theirs, recorded = (_by(merge_key, part) for part in (value, live.get(key), applied[key]))
            for name, item in mine.items():
                if name in recorded:
                    yield from _kept(item, theirs.get(name), recorded[name], f"{at}[{name}]")
                else:
                    yield f"{at}[{name}]"
        elif key in applied:
            yield from _kept(value, live.get(key), applied[key], at)
        elif merge_key and isinstance(value, list):
            yield from (f"{at}[{name}]" for name in _by(merge_key, value))
        elif live.get(key) != value and value not in ({}, [], None):
            yield at


def _by(merge_key: str, items: Any) -> dict[Any, Any]:
    return {item.get(merge_key): item for item in items or () if isinstance(item, dict)}


def _appliers(workload: Object) -> Iterator[str]:
    for entry in workload["metadata"].get("managedFields", ()):
        spec = (entry.get("fieldsV1") or {}).get("f:spec") or {}
        manager = str(entry.get("manager", ""))
        if entry.get("operation") == "Apply" and "f:template" in spec and manager not in _FORCE:
            yield manager

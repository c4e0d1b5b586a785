"""`managedFields`: which writer set each field last, as the API server keeps it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

Object = dict[str, Any]
Path = tuple[str, ...]

_KEYS = {"containers": ("name",), "initContainers": ("name",), "env": ("name",), "volumes": ("name",),
         "ports": ("containerPort", "protocol")}  # fmt: skip
_SERVICE_KEYS = {"ports": ("port", "protocol")}
_ALLOCATED = ("f:clusterIP", "f:clusterIPs", "f:ipFamilies", "f:ipFamilyPolicy")
_ATOMIC = ("selector", "nodeSelector", "resources")


def record(after: Object, before: Object, manager: str, now: str, subresource: str = "") -> None:
    """Makes `manager` the owner of the fields that it changed or added, and nobody that of removed fields."""
    if before and not before["metadata"].get("managedFields"):
        return  # only a creation begins the record
    old, new = dict(_leaves(before)), dict(_leaves(after))
    changed = {path for path, value in new.items() if path not in old or old[path] != value}
    entries = []
    own: set[Path] = set()
    for entry in before.get("metadata", {}).get("managedFields", ()):
        kept = {path for path in _flat(entry["fieldsV1"]) if path in new and path not in changed}
        if (entry["manager"], entry.get("subresource", "")) == (manager, subresource):
            own = kept
        if kept and not (changed and own is kept):
            entries.append({**entry, "fieldsV1": _nested(kept)})
    if changed:
        entries.append({
            "manager": manager, "operation": "Update", "apiVersion": after.get("apiVersion", "v1"), "time": now,
            "fieldsType": "FieldsV1", "fieldsV1": _nested(own | changed),
            **({"subresource": subresource} if subresource else {}),
        })  # fmt: skip
    if entries:
        after["metadata"]["managedFields"] = entries


def _leaves(found: Object) -> Iterator[tuple[Path, Any]]:
    service = found.get("kind") == "Service"
    meta = {key: found.get("metadata", {}).get(key) for key in ("annotations", "labels")}
    meta = {key: value for key, value in meta.items() if value}
    parts = {"metadata": meta} if meta else {}
    parts |= {key: value for key, value in found.items() if key in ("spec", "data", "type")}
    for key, value in parts.items():
        for path, leaf in _under(value, (f"f:{key}",), key, service=service):
            if leaf != "" and not (service and path[-1] in _ALLOCATED):
                yield path, leaf


def _under(value: Any, path: Path, key: str, *, service: bool) -> Iterator[tuple[Path, Any]]:
    keys = (_SERVICE_KEYS if service else _KEYS).get(key)
    if isinstance(value, dict) and value and key not in _ATOMIC:
        for name, item in value.items():
            yield from _under(item, (*path, f"f:{name}"), name, service=service)
    elif isinstance(value, list) and keys:
        for item in value:
            mark = json.dumps({name: item.get(name) for name in keys}, separators=(",", ":"))
            yield from _under(item, (*path, f"k:{mark}"), "", service=service)
    else:
        yield path, value


def _flat(fields: Object, path: Path = ()) -> Iterator[Path]:
    for key, value in fields.items():
        yield from _flat(value, (*path, key)) if value else [(*path, key)]


def _nested(paths: set[Path]) -> Object:
    result: Object = {}
    for path in sorted(paths):
        at = result
        for part in path:
            at = at.setdefault(part, {})
    return result

"""The three ways to patch an object, as the API server applies them."""

from __future__ import annotations

import json
from typing import Any

_KEYS = {"containers": "name", "initContainers": "name", "env": "name", "volumes": "name", "ports": "containerPort"}
_DELETE = object()


class Rejected(Exception):
    """The patch does not apply (422)."""


def copy(value: Any) -> Any:
    return json.loads(json.dumps(value))


def json_patch(document: Any, operations: list[dict[str, Any]]) -> Any:
    """RFC 6902, without `move` and `copy`. Raises Rejected for a failed test or a missing path."""
    document = copy(document)
    for operation in operations:
        *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
        parent = document
        for part in parents:
            parent = _child(parent, part)
        match operation["op"]:
            case "test":
                if _child(parent, last, None) != operation["value"]:
                    raise Rejected
            case "add" if isinstance(parent, list):
                parent.insert(len(parent) if last == "-" else int(last), copy(operation["value"]))
            case "add":
                parent[last] = copy(operation["value"])
            case "replace":
                if not isinstance(parent, dict):  # a missing key is added, as on a real server
                    _child(parent, last)
                parent[int(last) if isinstance(parent, list) else last] = copy(operation["value"])
            case "remove":
                _child(parent, last)
                del parent[int(last) if isinstance(parent, list) else last]
            case _:
                raise Rejected
    return document


def _child(parent: Any, part: str, *default: Any) -> Any:
    try:
        return parent[int(part)] if isinstance(parent, list) else parent[part]
    except (KeyError, IndexError, ValueError, TypeError):
        if default:
            return default[0]
        raise Rejected from None


def merge_patch(document: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return copy(patch)
    result = dict(document) if isinstance(document, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return copy(result)


def strategic_merge(document: Any, patch: Any, key: str = "") -> Any:
    """As merge, but the lists of a pod are merged by their keys; `$patch: replace` and `delete` are supported."""
    if isinstance(patch, list):
        return _merge_list(document, patch, _KEYS.get(key))
    if not isinstance(patch, dict):
        return copy(patch)
    if patch.get("$patch") == "replace":
        return copy({k: v for k, v in patch.items() if k != "$patch"})
    result = dict(document) if isinstance(document, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = strategic_merge(result.get(name), value, name)
    return copy(result)


def _merge_list(document: Any, patch: list[Any], by: str | None) -> list[Any]:
    if by is None or not all(isinstance(item, dict) for item in patch):
        return list(copy(patch))
    there = {item.get(by): item for item in document or ()}
    order = list(there)
    for item in patch:
        name = item.get(by)
        if item.get("$patch") == "delete":
            there.pop(name, None)
        else:
            there[name] = strategic_merge(there[name], item) if name in there else copy(item)
    named = [item.get(by) for item in patch if item.get(by) in there]
    return [there[name] for name in _ordered(named, [name for name in order if name in there], order)]


def _ordered(patched: list[Any], existing: list[Any], order: list[Any]) -> list[Any]:
    """New items come before the existing ones that the patch does not name."""
    rest, result = [name for name in existing if name not in patched], []
    for name in patched:
        at = order.index(name) if name in order else -1
        while rest and order.index(rest[0]) < at:
            result.append(rest.pop(0))
        result.append(name)
    return [*result, *rest]

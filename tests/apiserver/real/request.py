"""One request of the recorded ones."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]
JSON, MERGE, STRATEGIC = (f"application/{kind}+json" for kind in ("json-patch", "merge-patch", "strategic-merge-patch"))
APPS, CORE = "/apis/apps/v1/namespaces/shop", "/api/v1/namespaces/shop"
BACKEND = f"{APPS}/deployments/backend"


def ask(name: str, method: str, path: str, body: Any = None, kind: str = "application/json", **more: Any) -> Object:
    """`idle`: wait first until the controllers are idle. `seconds`: wait that long first. The rest is the query."""
    waits = {key: more.pop(key) for key in ("idle", "seconds", "headers") if key in more}
    found = {"name": name, "method": method, "path": path, "query": more, "body": body, "content_type": kind, **waits}
    return {key: value for key, value in found.items() if value not in (None, {})}


def replaced(path: str, value: Any, op: str = "replace") -> list[Object]:
    return [{"op": op, "path": path, "value": value}]

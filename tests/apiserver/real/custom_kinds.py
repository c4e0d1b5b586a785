"""Definitions of the custom kinds, without controllers.

`python -m tests.apiserver.real.custom_kinds | kubectl apply -f -` adds them to a cluster.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from tests.apiserver.kinds import BUILT_IN, KINDS, VERSIONS
from tests.apiserver.store import Object

_ANY = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def definitions() -> Iterator[Object]:
    for resource, kind in KINDS.items():
        group, _, plural = resource.rpartition("/")
        if group in BUILT_IN:
            continue
        version = {"name": VERSIONS[group].partition("/")[2], "served": True, "storage": True}
        properties = {"spec": _ANY, "status": _ANY}
        schema = {"openAPIV3Schema": {"type": "object", "properties": properties}}
        names = {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"}
        versions = [{**version, "schema": schema, "subresources": {"status": {}}}]
        yield {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.{group}"},
            "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": versions},
        }


if __name__ == "__main__":
    print(json.dumps({"apiVersion": "v1", "kind": "List", "items": list(definitions())}, indent=1))

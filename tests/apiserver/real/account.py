"""The responder's account in a real cluster, with the permissions of `deploy/kubernetes` minus what a test forbids."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.apiserver.store import Object

_DEPLOY = Path(__file__).parents[3] / "deploy" / "kubernetes"
SUSPEND = [
    {"apiGroups": ["argoproj.io"], "resources": ["applications"], "verbs": ["get", "patch"]},
    {"apiGroups": ["helm.toolkit.fluxcd.io"], "resources": ["helmreleases"], "verbs": ["get", "patch"]},
]
"""The rules for `gitops: suspend`, which are comments in the manifest."""
_RBAC, _AT_MOST, _LOOK_EVERY = "rbac.authorization.k8s.io", 20.0, 0.05

Right = tuple[str, str]
Request = Callable[..., tuple[int, Object]]


def shipped() -> list[tuple[Object, Object]]:
    """Each role with its binding."""
    files = (_DEPLOY / "rights" / "role.yaml", _DEPLOY / "nodes.yaml")
    return [(role, binding) for role, binding in (yaml.safe_load_all(file.read_text()) for file in files)]


def rights_of(role: Object) -> Iterator[Right]:
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                yield from ((verb, f"{group}/{resource}".lstrip("/")) for verb in rule["verbs"])


class Account:
    """A ServiceAccount in the namespace, with the roles of the manifests."""

    def __init__(self, request: Request, namespace: str) -> None:
        self._request, self._namespace = request, namespace
        self._made: list[str] = []
        me = {"kind": "ServiceAccount", "name": "responder", "namespace": namespace}
        accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        self._post(accounts, {"metadata": {"name": "responder"}})
        for role, binding in shipped():
            kind, home = role["kind"], self._home(role["kind"])
            name = role["metadata"]["name"] if kind == "Role" else namespace
            rules = [*role["rules"], *(SUSPEND if kind == "Role" else ())]
            self._post(f"{home}/{kind.lower()}s", {**role, "metadata": {"name": name}, "rules": rules})
            ref = {**binding["roleRef"], "name": name}
            bound = {**binding, "metadata": {"name": name}, "roleRef": ref, "subjects": [me]}
            self._post(f"{home}/{kind.lower()}bindings", bound)
            self._made += [f"{home}/{kind.lower()}bindings/{name}", f"{home}/{kind.lower()}s/{name}"]
        self.token = str(self._post(f"{accounts}/responder/token", {"spec": {}})["status"]["token"])

    def forbid(self, forbidden: set[Right]) -> None:
        """Removes these permissions, and returns when the server has seen it."""
        for role, _ in shipped():
            kind, extra = role["kind"], SUSPEND if role["kind"] == "Role" else []
            left = [right for right in rights_of({"rules": [*role["rules"], *extra]}) if right not in forbidden]
            rules = [_rule(verb, resource) for verb, resource in left]
            name = role["metadata"]["name"] if kind == "Role" else self._namespace
            path = f"{self._home(kind)}/{kind.lower()}s/{name}"
            status, answer = self._request("PATCH", path, {"rules": rules}, "application/merge-patch+json")
            assert status == 200, answer
        wanted = {right for role, _ in shipped() for right in rights_of(role)}
        for verb, resource in sorted(wanted):
            deadline = time.monotonic() + _AT_MOST
            while self._may(verb, resource) == ((verb, resource) in forbidden):
                assert time.monotonic() < deadline, f"no effect: {verb} {resource}"
                time.sleep(_LOOK_EVERY)

    def close(self) -> None:
        """Removes what is not in the namespace."""
        for path in self._made:
            if "/namespaces/" not in path:
                self._request("DELETE", path)

    def _may(self, verb: str, resource: str) -> bool:
        group, _, plural = resource.rpartition("/") if "/log" not in resource else ("", "", "pods")
        attributes = {"verb": verb, "group": group, "resource": plural, "namespace": self._namespace}
        if resource.endswith("/log"):
            attributes["subresource"] = "log"
        if plural == "nodes":
            del attributes["namespace"]
        spec = {"user": f"system:serviceaccount:{self._namespace}:responder", "resourceAttributes": attributes}
        made = self._post("/apis/authorization.k8s.io/v1/subjectaccessreviews", {"spec": spec})
        return bool(made["status"]["allowed"])

    def _home(self, kind: str) -> str:
        within = f"/namespaces/{self._namespace}" if kind == "Role" else ""
        return f"/apis/{_RBAC}/v1{within}"

    def _post(self, path: str, body: Object) -> Object:
        status, answer = self._request("POST", path, body)
        assert status in (200, 201), answer
        return answer


def _rule(verb: str, resource: str) -> dict[str, Any]:
    group, _, plural = resource.rpartition("/") if not resource.endswith("/log") else ("", "", resource)
    return {"apiGroups": [group], "resources": [plural], "verbs": [verb]}

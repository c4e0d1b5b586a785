"""The kinds that the stand-in serves, and the meaning of paths."""

from __future__ import annotations

from typing import Any

KINDS = {
    "pods": "Pod", "services": "Service", "configmaps": "ConfigMap", "secrets": "Secret", "nodes": "Node",
    "serviceaccounts": "ServiceAccount", "persistentvolumeclaims": "PersistentVolumeClaim", "events": "Event",
    "apps/deployments": "Deployment", "apps/replicasets": "ReplicaSet", "apps/statefulsets": "StatefulSet",
    "apps/daemonsets": "DaemonSet", "apps/controllerrevisions": "ControllerRevision",
    "discovery.k8s.io/endpointslices": "EndpointSlice",
    "autoscaling/horizontalpodautoscalers": "HorizontalPodAutoscaler",
    "argoproj.io/applications": "Application", "helm.toolkit.fluxcd.io/helmreleases": "HelmRelease",
    "flagger.app/canaries": "Canary", "argoproj.io/rollouts": "Rollout", "keda.sh/scaledobjects": "ScaledObject",
}  # fmt: skip
VERSIONS = {
    "": "v1", "apps": "apps/v1", "discovery.k8s.io": "discovery.k8s.io/v1", "autoscaling": "autoscaling/v2",
    "argoproj.io": "argoproj.io/v1alpha1", "helm.toolkit.fluxcd.io": "helm.toolkit.fluxcd.io/v2",
    "flagger.app": "flagger.app/v1beta1", "keda.sh": "keda.sh/v1alpha1",
}  # fmt: skip
BUILT_IN = ("", "apps", "discovery.k8s.io", "autoscaling")
RESOURCES = {kind: resource for resource, kind in KINDS.items()}


def home_of(group: str) -> str:
    return f"/apis/{VERSIONS[group]}" if group else "/api/v1"


def request_of(method: str, path: str) -> tuple[str, str, str, str, str, str]:
    """Verb, target (resource, with `/log`), resource with its group, namespace, name and subresource."""
    parts = path.strip("/").split("/")
    group, rest = ("", parts[2:]) if parts[0] == "api" else ((*parts, "")[1], parts[3:])
    namespace, rest = (rest[1], rest[2:]) if rest[:1] == ["namespaces"] and len(rest) > 2 else ("", rest)
    resource = f"{group}/{rest[0]}".lstrip("/") if rest else ""
    name, sub = [*rest[1:], "", ""][:2]
    verb = {"POST": "create", "PATCH": "patch", "PUT": "update", "DELETE": "delete"}.get(method)
    verb = verb or ("get" if name else "list")
    return verb, f"{resource}/{sub}" if sub == "log" else resource, resource, namespace, name, sub


def discovery(path: str, served: dict[str, str]) -> dict[str, Any] | None:
    """Discovery, for clients such as kubectl. `served`: the group of each version."""
    if path == "/version":
        return {"major": "1", "minor": "36", "gitVersion": "v1.36.0"}
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        versions = ({"groupVersion": v, "version": v.partition("/")[2]} for v, g in served.items() if g)
        groups = [
            {"name": v["groupVersion"].partition("/")[0], "versions": [v], "preferredVersion": v} for v in versions
        ]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
    home = path.removeprefix("/apis/") if path.startswith("/apis/") else path.removeprefix("/api/")
    if home not in served:
        return None
    verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
    resources = [
        {
            "name": r.rpartition("/")[2],
            "singularName": kind.lower(),
            "namespaced": kind != "Node",
            "kind": kind,
            "verbs": verbs,
        }
        for r, kind in KINDS.items()
        if r.rpartition("/")[0] == served[home]
    ]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": home, "resources": resources}

"""Where the API server keeps the objects of a kind."""

from __future__ import annotations

HOMES = {
    "Pod": "api/v1",
    "Event": "api/v1",
    "Service": "api/v1",
    "ConfigMap": "api/v1",
    "Secret": "api/v1",
    "ServiceAccount": "api/v1",
    "PersistentVolumeClaim": "api/v1",
    "Deployment": "apis/apps/v1",
    "ReplicaSet": "apis/apps/v1",
    "StatefulSet": "apis/apps/v1",
    "DaemonSet": "apis/apps/v1",
    "ControllerRevision": "apis/apps/v1",
    "EndpointSlice": "apis/discovery.k8s.io/v1",
    "HorizontalPodAutoscaler": "apis/autoscaling/v2",
    "Application": "apis/argoproj.io/v1alpha1",
    "Rollout": "apis/argoproj.io/v1alpha1",
    "HelmRelease": "apis/helm.toolkit.fluxcd.io/v2",
    "Canary": "apis/flagger.app/v1beta1",
}
_PLURALS = {"Canary": "canaries"}
ALWAYS = ("api/v1", "apis/apps/v1", "apis/discovery.k8s.io/v1", "apis/autoscaling/v2")
"""What every cluster serves. The other kinds are there only where somebody installed them."""


def plural(kind: str) -> str:
    return _PLURALS.get(kind, f"{kind.lower()}s")


def path_of(kind: str, namespace: str, name: str = "") -> str:
    return f"/{HOMES[kind]}/namespaces/{namespace}/{plural(kind)}{'/' + name if name else ''}"

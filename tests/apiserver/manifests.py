"""Small manifests for tests."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]


def template(image: str, labels: dict[str, str], **spec: Any) -> Object:
    return {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "app", "image": image}], **spec}}


def workload(kind: str, name: str, image: str, *, labels: dict[str, str] | None = None, **spec: Any) -> Object:
    labels = labels or {"app": name}
    pods = template(image, labels, **spec.pop("pod", {}))
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"selector": {"matchLabels": labels}, "template": pods, **spec},
    }


def deployment(name: str, image: str, replicas: int = 4, **more: Any) -> Object:
    return workload("Deployment", name, image, replicas=replicas, **more)


def statefulset(name: str, image: str, replicas: int = 3, **more: Any) -> Object:
    return workload("StatefulSet", name, image, replicas=replicas, **more)


def service(name: str, selector: dict[str, str]) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"selector": selector, "ports": [{"port": 80}]},
    }


def autoscaler(deployment: str, most: int) -> Object:
    target = {"kind": "Deployment", "name": deployment, "apiVersion": "apps/v1"}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": deployment, "namespace": "shop"},
        "spec": {"scaleTargetRef": target, "maxReplicas": most},
    }

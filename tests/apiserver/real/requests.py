"""Requests to a control plane, in their order. `record.py` sends them to a real one; a test to the stand-in.

In a body, `$VERSION` is the current `resourceVersion` of the object of the path, and `$STALE` the one at its creation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.apiserver.manifests import autoscaler, deployment, service, statefulset, workload
from tests.apiserver.real.creations import creations
from tests.apiserver.real.request import APPS, BACKEND, CORE, JSON, MERGE, STRATEGIC, Object, ask, replaced


def missing() -> Iterator[Object]:
    yield ask("unknown group", "GET", "/apis/flagger.app/v1beta1/namespaces/shop/canaries")
    yield ask("unknown group: discovery", "GET", "/apis/flagger.app/v1beta1")
    yield ask("unknown group: an object", "GET", "/apis/flagger.app/v1beta1/namespaces/shop/canaries/web")
    yield ask("unknown resource", "GET", f"{APPS}/nothings")
    yield ask("unknown version", "GET", "/apis/apps/v9/namespaces/shop/deployments")
    yield ask("get: missing", "GET", f"{APPS}/deployments/missing")
    yield ask("get: missing, of the core", "GET", f"{CORE}/services/missing")
    yield ask("delete: missing", "DELETE", f"{APPS}/deployments/missing")
    yield ask("patch: missing", "PATCH", f"{APPS}/deployments/missing", replaced("/spec/replicas", 1), JSON)
    yield ask("list: empty", "GET", f"{APPS}/statefulsets")
    yield ask("list: other namespace", "GET", "/apis/apps/v1/namespaces/nowhere/deployments")


def reads() -> Iterator[Object]:
    yield ask("get", "GET", BACKEND, idle=True)
    yield ask("list", "GET", f"{APPS}/deployments")
    yield ask("list: by label", "GET", f"{APPS}/deployments", labelSelector="app=backend")
    yield ask("list: by other label", "GET", f"{APPS}/deployments", labelSelector="app!=backend")
    yield ask(
        "list: by set", "GET", f"{CORE}/pods", labelSelector="app in (backend,web)", fieldSelector="status.phase=Failed"
    )
    yield ask("list: bad selector", "GET", f"{APPS}/deployments", labelSelector="app=(")
    yield ask("list: bad field", "GET", f"{APPS}/deployments", fieldSelector="spec.replicas=1")
    yield ask("list: page", "GET", f"{CORE}/pods", limit="1")
    yield ask("list: bad continue", "GET", f"{CORE}/pods", limit="1", **{"continue": "nonsense"})
    yield ask("replicasets", "GET", f"{APPS}/replicasets")
    yield ask("pods", "GET", f"{CORE}/pods")
    yield ask("scale: get", "GET", f"{BACKEND}/scale")
    yield ask("status: get", "GET", f"{BACKEND}/status")


def patches() -> Iterator[Object]:
    image = "/spec/template/spec/containers/0/image"
    odd: dict[str, tuple[Any, str]] = {
        "plain JSON": (replaced("/spec/replicas", 1), "application/json"),
        "failed test": (replaced("/spec/replicas", 77, "test"), JSON),
        "failed test of the version": (replaced("/metadata/resourceVersion", "1", "test"), JSON),
        "missing path": (replaced("/spec/nothing/there", 1), JSON),
        "missing last part": (replaced("/spec/nothing", 1), JSON),
        "remove a missing key": ([{"op": "remove", "path": "/spec/paused"}], JSON),
        "no such operation": ([{"op": "set", "path": "/spec/replicas", "value": 1}], JSON),
        "stale": (replaced("/metadata/resourceVersion", "$STALE"), JSON),
        "stale, merge": ({"metadata": {"resourceVersion": "$STALE"}}, MERGE),
        "wrong type": (replaced("/spec/replicas", "many"), JSON),
        "wrong type, merge": ({"spec": {"replicas": "many"}}, MERGE),
        "wrong type, strategic": ({"spec": {"replicas": "many"}}, STRATEGIC),
        "invalid": (replaced("/spec/replicas", -1), JSON),
        "selector": (replaced("/spec/selector/matchLabels/app", "x"), JSON),
        "name": (replaced("/metadata/name", "x"), JSON),
        "no containers": (replaced("/spec/template/spec/containers", []), JSON),
        "generation": (replaced("/metadata/generation", 99), JSON),
        "uid": (replaced("/metadata/uid", "00000000-0000-0000-0000-000000000000"), JSON),
        "same value": (replaced(image, "shop:1"), JSON),
        "status is not changed": (replaced("/status/replicas", 99), JSON),
    }
    for name, (body, kind) in odd.items():
        yield ask(f"patch: {name}", "PATCH", BACKEND, body, kind)
    strict = {"spec": {"replicos": 3}}
    yield ask("patch: strict", "PATCH", BACKEND, strict, MERGE, fieldValidation="Strict")
    yield ask("patch: unknown field", "PATCH", BACKEND, strict, MERGE)
    yield ask("patch: dry run", "PATCH", BACKEND, replaced("/spec/replicas", 7), JSON, dryRun="All")
    yield ask(
        "patch: with version",
        "PATCH",
        BACKEND,
        [*replaced("/metadata/resourceVersion", "$VERSION"), *replaced("/metadata/labels", {"a": "b"}, "add")],
        JSON,
    )
    container = {"name": "side", "image": "side:1"}
    sidecar = {"spec": {"template": {"spec": {"containers": [container]}}}}
    yield ask("patch: a sidecar, dry run", "PATCH", BACKEND, sidecar, STRATEGIC, dryRun="All")
    yield ask(
        "patch: image, strategic",
        "PATCH",
        BACKEND,
        {"spec": {"template": {"spec": {"containers": [{"name": "app", "image": "shop:2"}]}}}},
        STRATEGIC,
    )
    yield ask("after an update", "GET", BACKEND, idle=True)
    yield ask("replicasets after an update", "GET", f"{APPS}/replicasets")
    yield ask("patch: back", "PATCH", BACKEND, replaced(image, "shop:1"), JSON)
    yield ask("after going back", "GET", BACKEND, idle=True)
    yield ask("replicasets after going back", "GET", f"{APPS}/replicasets")
    yield ask("scale: patch", "PATCH", f"{BACKEND}/scale", {"spec": {"replicas": 3}}, MERGE)
    yield ask("after scaling", "GET", BACKEND, idle=True)
    yield ask("replicasets after scaling", "GET", f"{APPS}/replicasets")
    full = deployment("backend", "shop:1", 2)
    yield ask("put: no version", "PUT", BACKEND, full)
    full = {**full, "metadata": {**full["metadata"], "resourceVersion": "$STALE"}}
    yield ask("put: stale", "PUT", BACKEND, full)
    other = deployment("other", "shop:1", 2)
    yield ask("put: other name", "PUT", BACKEND, other)
    wrong = deployment("backend", "shop:1", 2)
    wrong["spec"]["replicas"] = "many"
    yield ask("put: wrong type", "PUT", BACKEND, wrong)
    yield ask("patch: pause", "PATCH", BACKEND, replaced("/spec/paused", True, "add"), JSON, idle=True)
    yield ask("paused", "GET", BACKEND, seconds=1)
    yield ask("patch: resume", "PATCH", BACKEND, replaced("/spec/paused", False), JSON)
    yield ask("resumed", "GET", BACKEND, seconds=1)


def failures() -> Iterator[Object]:
    spec = {
        "spec": {
            "progressDeadlineSeconds": 1,
            "template": {"spec": {"containers": [{"name": "app", "image": "shop:pull_fails"}]}},
        }
    }
    yield ask("patch: an image that cannot be pulled", "PATCH", BACKEND, spec, STRATEGIC)
    yield ask("past the deadline", "GET", BACKEND, seconds=4)
    yield ask("pods past the deadline", "GET", f"{CORE}/pods")
    yield ask("replicasets past the deadline", "GET", f"{APPS}/replicasets")
    recreate = {"spec": {"strategy": {"type": "Recreate"}}}
    yield ask("patch: recreate with settings", "PATCH", BACKEND, recreate, MERGE)
    yield ask("patch: recreate", "PATCH", BACKEND, replaced("/spec/strategy", {"type": "Recreate"}), JSON)
    yield ask("recreate past the deadline", "GET", BACKEND, seconds=4)


def services() -> Iterator[Object]:
    yield ask("service: create", "POST", f"{CORE}/services", service("backend", {"app": "backend", "color": "green"}))
    yield ask(
        "service: selector", "PATCH", f"{CORE}/services/backend", {"spec": {"selector": {"color": "blue"}}}, MERGE
    )
    yield ask("service: JSON", "PATCH", f"{CORE}/services/backend", replaced("/spec/selector", {"app": "web"}), JSON)
    yield ask("service: get", "GET", f"{CORE}/services/backend")
    slices = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices"
    yield ask("slices", "GET", slices, labelSelector="kubernetes.io/service-name=backend", seconds=1)


def others() -> Iterator[Object]:
    yield ask("statefulset: create", "POST", f"{APPS}/statefulsets", statefulset("web", "shop:1", 2))
    yield ask("statefulset: get", "GET", f"{APPS}/statefulsets/web", idle=True)
    partition = {
        "spec": {
            "updateStrategy": {"rollingUpdate": {"partition": 1}},
            "template": {"spec": {"containers": [{"name": "app", "image": "shop:2"}]}},
        }
    }
    yield ask("statefulset: partition", "PATCH", f"{APPS}/statefulsets/web", partition, STRATEGIC)
    yield ask("statefulset: after a partition", "GET", f"{APPS}/statefulsets/web", seconds=3)
    yield ask(
        "statefulset: complete",
        "PATCH",
        f"{APPS}/statefulsets/web",
        replaced("/spec/updateStrategy/rollingUpdate/partition", 0),
        JSON,
    )
    yield ask("statefulset: completed", "GET", f"{APPS}/statefulsets/web", seconds=3)
    yield ask(
        "statefulset: immutable", "PATCH", f"{APPS}/statefulsets/web", replaced("/spec/serviceName", "x", "add"), JSON
    )
    yield ask("controllerrevisions", "GET", f"{APPS}/controllerrevisions")
    yield ask("pods of a statefulset", "GET", f"{CORE}/pods", labelSelector="app=web")
    yield ask("endpointslices of web", "GET", "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices")
    yield ask("daemonset: create", "POST", f"{APPS}/daemonsets", workload("DaemonSet", "agent", "shop:1"))
    yield ask("daemonset: get", "GET", f"{APPS}/daemonsets/agent", seconds=2)
    update = {"spec": {"template": {"spec": {"containers": [{"name": "app", "image": "shop:2"}]}}}}
    yield ask("daemonset: update", "PATCH", f"{APPS}/daemonsets/agent", update, STRATEGIC)
    yield ask("daemonset: updated", "GET", f"{APPS}/daemonsets/agent", seconds=3)
    yield ask("daemonset: revisions", "GET", f"{APPS}/controllerrevisions", labelSelector="app=agent")
    yield ask(
        "daemonset: neither",
        "PATCH",
        f"{APPS}/daemonsets/agent",
        {"spec": {"updateStrategy": {"rollingUpdate": {"maxUnavailable": 0}}}},
        MERGE,
    )
    scalers = "/apis/autoscaling/v2/namespaces/shop/horizontalpodautoscalers"
    yield ask("autoscaler: create", "POST", scalers, autoscaler("backend", 5))
    yield ask("autoscaler: minimum", "PATCH", f"{scalers}/backend", replaced("/spec/minReplicas", 2), JSON)
    yield ask("autoscaler: minimum over maximum", "PATCH", f"{scalers}/backend", replaced("/spec/minReplicas", 9), JSON)
    for kind, plural, more in (
        ("ConfigMap", "configmaps", {"data": {"a": "b"}}),
        ("Secret", "secrets", {"stringData": {"a": "b"}}),
        ("ServiceAccount", "serviceaccounts", {}),
    ):
        meta = {"name": "settings", "namespace": "shop"}
        made = {"apiVersion": "v1", "kind": kind, "metadata": meta, **more}
        yield ask(f"{plural}: create", "POST", f"{CORE}/{plural}", made)
        yield ask(f"{plural}: get", "GET", f"{CORE}/{plural}/settings")
    odd = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "odd", "namespace": "shop"}, "data": {"a": "1"}}
    yield ask("secrets: create, not in base64", "POST", f"{CORE}/secrets", odd)
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "shop"}},
    }
    yield ask("access review", "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)


def deletions() -> Iterator[Object]:
    yield ask("log: unknown container", "GET", f"{CORE}/pods/web-0/log", container="nope")
    uid = {
        "kind": "DeleteOptions",
        "apiVersion": "v1",
        "preconditions": {"uid": "00000000-0000-0000-0000-000000000000"},
    }
    yield ask("delete: other uid", "DELETE", f"{CORE}/pods/web-0", uid)
    yield ask("delete: dry run", "DELETE", BACKEND, dryRun="All")
    yield ask(
        "delete: pod, dry run",
        "DELETE",
        f"{CORE}/pods/web-0",
        {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0, "dryRun": ["All"]},
    )
    yield ask("delete: service", "DELETE", f"{CORE}/services/backend")
    yield ask("delete", "DELETE", BACKEND)
    yield ask("deleted", "GET", BACKEND)


def watches() -> Iterator[Object]:
    made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "watched", "namespace": "shop"}}
    path = f"{CORE}/configmaps"
    yield ask("watched: create", "POST", path, made)
    yield ask("watched: change", "PATCH", f"{path}/watched", {"data": {"a": "b"}}, MERGE)
    yield ask("watched: change again", "PATCH", f"{path}/watched", {"data": {"a": "c"}}, MERGE)
    yield ask("watched: same", "PATCH", f"{path}/watched", {"data": {"a": "c"}}, MERGE)
    name = {"fieldSelector": "metadata.name=watched", "timeoutSeconds": "1", "watch": "1"}
    yield ask("watch: what exists", "GET", path, **name)
    yield ask("watched: delete", "DELETE", f"{path}/watched")
    yield ask("watch: what happened since", "GET", path, **name, resourceVersion="$SINCE")
    yield ask("watch: what is gone", "GET", path, **name)


def strangers() -> Iterator[Object]:
    yield ask("wrong token", "GET", BACKEND, headers={"Authorization": "Bearer wrong"})
    other = {"Impersonate-User": "system:serviceaccount:shop:responder"}
    yield ask("forbidden: get", "GET", f"{CORE}/secrets/settings", headers=other)
    yield ask("forbidden: list", "GET", f"{APPS}/deployments", headers=other)
    yield ask("forbidden: patch", "PATCH", BACKEND, replaced("/spec/replicas", 1), JSON, headers=other)
    yield ask("forbidden: log", "GET", f"{CORE}/pods/web-0/log", headers=other)
    yield ask("forbidden: missing", "GET", f"{APPS}/deployments/missing", headers=other)
    yield ask(
        "forbidden: a group that is not installed",
        "GET",
        "/apis/flagger.app/v1beta1/namespaces/shop/canaries",
        headers=other,
    )
    yield ask("forbidden: dry run", "DELETE", BACKEND, dryRun="All", headers=other)


def all_requests() -> list[Object]:
    parts = (missing, creations, reads, patches, failures, services, others, watches, strangers, deletions)
    return [request for part in parts for request in part()]

"""`check --live` queries a cluster as a plan does: it finds obstacles before a rollback is needed."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from responder.backends.accessible import Accessible
from responder.backends.kubernetes.client import Kubernetes
from responder.backends.kubernetes.pod_logs import PodLogs
from responder.backends.kubernetes.pod_template import PodTemplate
from responder.backends.kubernetes.scale import AutoscalerFloor, KeptPods, Replicas
from responder.backends.kubernetes.traffic import ServiceSelector
from responder.backends.problems import Problem
from responder.backends.resource import Resource
from responder.cli.checking.live import targets_of
from responder.errors import StepFailed
from responder.rollback.gateway import Gateway
from responder.services.service import Service
from tests.apiserver import Cluster
from tests.apiserver.client import InProcess, client_of
from tests.apiserver.manifests import autoscaler, deployment, service, statefulset
from tests.responder.harness import FixedConnections

TEMPLATE = PodTemplate(namespace="shop", deployment="backend")
ORDERED = PodTemplate(namespace="shop", statefulset="web")
SELECTOR = ServiceSelector(namespace="shop", service="backend")
STOP = Replicas(namespace="shop", deployment="backend")


@pytest.fixture
def ready(cluster: Cluster) -> Cluster:
    """A plain cluster without additional software."""
    cluster.apply(deployment("backend", "shop:1", labels={"app": "backend", "color": "blue"}))
    cluster.apply(statefulset("web", "shop:1"))
    cluster.apply(autoscaler("backend", 9))
    cluster.apply(service("backend", {"app": "backend", "color": "blue"}))
    return cluster


@pytest.mark.parametrize("resource", [TEMPLATE, ORDERED, SELECTOR, STOP], ids=str)
async def test_a_plain_cluster_has_no_problems(resource: Resource, ready: Cluster) -> None:
    before = _objects(ready)
    assert await Gateway(FixedConnections({Kubernetes: client_of(ready)})).check_access(resource, within=5.0) == []
    assert _objects(ready) == before


def _objects(cluster: Cluster) -> list[Any]:
    """What the responder may not change while it checks; controllers update the rest."""
    kinds = ("Deployment", "StatefulSet", "Service", "HorizontalPodAutoscaler")
    return [(found["metadata"]["name"], found["spec"]) for kind in kinds for found in cluster.all(kind, "shop")]


def _paused(cluster: Cluster) -> None:
    found = cluster.get("Deployment", "shop", "backend")
    cluster.put({**found, "spec": {**found["spec"], "paused": True}}, before=found)


def _without_key(cluster: Cluster) -> None:
    found = cluster.get("Service", "shop", "backend")
    cluster.put({**found, "spec": {**found["spec"], "selector": {"app": "backend"}}}, before=found)


@pytest.mark.parametrize(
    ("resource", "change", "why"),
    [
        (TEMPLATE, lambda c: c.drop(c.get("Deployment", "shop", "backend")), "Deployment shop/backend does not exist"),
        (
            TEMPLATE,
            lambda c: c.forbidden.add(("patch", "apps/deployments")),
            "cannot patch Deployment backend in shop",
        ),
        (TEMPLATE, lambda c: c.forbidden.add(("list", "pods")), "cannot list Pods"),
        (TEMPLATE, lambda c: c.forbidden.add(("get", "apps/deployments")), "cannot get Deployment backend in shop"),
        (TEMPLATE, _paused, "the rollout of Deployment shop/backend is paused .*when_paused: resume"),
        (KeptPods(**STOP.where, count=1), lambda c: c.forbidden.add(("patch", "pods")), "cannot patch Pods in shop"),
        (
            AutoscalerFloor(namespace="shop", autoscaler="backend"),
            lambda c: c.forbidden.add(("patch", "autoscaling/horizontalpodautoscalers")),
            "cannot patch HorizontalPodAutoscaler backend in shop",
        ),
        (
            PodLogs.model_validate({"kubernetes": {"namespace": "shop", "selector": "app=backend"}}),
            lambda c: c.forbidden.add(("list", "events")),
            "cannot list Events in shop",
        ),
        (
            TEMPLATE,
            lambda c: c.forbidden.add(("list", "apps/replicasets")),
            "ReplicaSets in shop|ReplicaSets of shop",
        ),
        (ORDERED, lambda c: c.forbidden.add(("delete", "pods")), "cannot delete Pods"),
        (SELECTOR, lambda c: c.drop(c.get("Service", "shop", "backend")), "Service shop/backend does not exist"),
        (SELECTOR, _without_key, "Service shop/backend: its selector has no label color"),
        (SELECTOR, lambda c: c.forbidden.add(("patch", "services")), "cannot patch Service backend"),
        (
            SELECTOR,
            lambda c: c.forbidden.add(("list", "discovery.k8s.io/endpointslices")),
            "cannot list EndpointSlices",
        ),
        (
            STOP,
            lambda c: c.forbidden.add(("patch", "apps/deployments")),
            "cannot patch Deployment backend in shop",
        ),
    ],
)
async def test_obstacles_of_a_plan_are_found(
    resource: Accessible, change: Callable[[Cluster], Any], why: str, ready: Cluster
) -> None:
    change(ready)
    found = await Gateway(FixedConnections({Kubernetes: client_of(ready)})).check_access(resource, within=5.0)
    assert re.search(why, "; ".join(map(str, found)))


async def test_other_owners_of_the_workload_are_reported(ready: Cluster) -> None:
    ready.installed.add("flagger.app")
    await TEMPLATE.check_access(client_of(ready))
    assert ("list", "flagger.app/canaries") in ready.requests


async def test_all_obstacles_are_reported_at_once(ready: Cluster) -> None:
    _paused(ready)
    ready.forbidden |= {("patch", "apps/deployments"), ("list", "flagger.app/canaries")}
    ready.installed.add("flagger.app")
    found = "; ".join(map(str, await TEMPLATE.check_access(client_of(ready))))
    for why in (
        "cannot patch Deployment backend",
        "is paused",
        "cannot list Canaries in shop, which would show a Canary",
    ):
        assert why in found


async def test_a_denial_despite_the_review_is_reported(ready: Cluster) -> None:
    """An authorizing proxy may deny what the API server would allow."""

    class Denying(InProcess):
        async def _send(self, method: str, path: str, *more: Any) -> Any:
            return (403, {"message": "not today"}) if method == "GET" else await super()._send(method, path, *more)

    (problem,) = await TEMPLATE.check_access(Denying(ready))
    assert "the cluster denies access (403): not today" in problem.found


def _rolls(cluster: Cluster, kind: str, name: str, **spec: Any) -> None:
    found = cluster.get(kind, "shop", name)
    cluster.put({**found, "spec": {**found["spec"], **spec}}, before=found)


@pytest.mark.parametrize(
    ("where", "change", "why"),
    [
        (
            {"deployment": "backend"},
            lambda c: _rolls(c, "Deployment", "backend", strategy={"type": "Recreate"}),
            "has the strategy Recreate, which has no batches: use immediate",
        ),
        (
            {"statefulset": "web"},
            lambda c: _rolls(c, "StatefulSet", "web", updateStrategy={"type": "OnDelete"}),
            "has the strategy OnDelete, which has no batches: use immediate",
        ),
        (
            {"deployment": "backend"},
            lambda c: _rolls(c, "Deployment", "backend", revisionHistoryLimit=0),
            r"Deployment shop/backend: keeps no old revision \(revisionHistoryLimit: 0\); raise the limit",
        ),
        ({"deployment": "backend"}, lambda c: None, "^$"),
        ({"statefulset": "web"}, lambda c: None, "^$"),
    ],
)
async def test_the_settings_of_a_strategy_are_tried(
    where: dict[str, str], change: Callable[[Cluster], Any], why: str, ready: Cluster
) -> None:
    change(ready)
    before = _objects(ready)
    strategy = {"strategy": "rolling", "kubernetes": {"namespace": "shop", **where}}
    healthy = [{"pods": {"namespace": "shop", "labels": {"app": "backend"}}}]
    assert re.search(why, "; ".join(map(str, await _check(strategy, client_of(ready), healthy))))
    assert _objects(ready) == before


@pytest.mark.parametrize("strategy", ["rolling", "immediate"])
async def test_a_policy_that_refuses_the_settings_of_a_strategy_is_found(strategy: str, ready: Cluster) -> None:
    class Refusing(InProcess):
        async def _send(self, method: str, path: str, query: Any, body: Any, *more: Any) -> Any:
            if method == "PATCH" and any(operation["path"] == "/spec/strategy" for operation in body):
                assert query == {"dryRun": "All"}
                return 422, {"message": 'admission webhook "policy" denied the request: maxUnavailable'}
            return await super()._send(method, path, query, body, *more)

    rollback = {"strategy": strategy, "kubernetes": {"namespace": "shop", "deployment": "backend"}}
    healthy = [{"pods": {"namespace": "shop", "labels": {"app": "backend"}}}]
    (problem,) = await _check(rollback, Refusing(ready), healthy)
    assert 'admission webhook "policy" denied the request' in str(problem)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda c: None, "^$"),
        (lambda c: c.drop(c.get("Deployment", "shop", "shop-green")), "Deployment shop/shop-green does not exist"),
        (
            lambda c: _rolls(c, "Service", "shop", selector={"app": "backend", "color": "red"}),
            "names 'red', neither blue nor green; set it to the color that has the traffic",
        ),
        (
            lambda c: c.forbidden.add(("list", "autoscaling/horizontalpodautoscalers")),
            "the HorizontalPodAutoscalers of shop: the cluster denies access",
        ),
        (
            lambda c: c.forbidden.add(("patch", "autoscaling/horizontalpodautoscalers")),
            "cannot patch HorizontalPodAutoscaler shop-blue in shop",
        ),
        (lambda c: c.forbidden.add(("patch", "pods")), "cannot patch Pods in shop"),
        (lambda c: c.forbidden.add(("patch", "services")), "cannot patch Service shop in shop"),
        (lambda c: c.forbidden.add(("get", "services")), "cannot get Service shop in shop"),
    ],
)
async def test_obstacles_of_two_colors_are_found(change: Callable[[Cluster], Any], why: str, ready: Cluster) -> None:
    for color in ("blue", "green"):
        ready.apply(deployment(f"shop-{color}", "shop:1", labels={"app": "backend", "color": color}))
    ready.apply(autoscaler("shop-blue", 9))
    ready.apply(service("shop", {"app": "backend", "color": "green"}))
    change(ready)
    rollback = {
        "strategy": "blue_green",
        "pointer": {"namespace": "shop", "service": "shop"},
        "colors": {c: {"kubernetes": {"namespace": "shop", "deployment": f"shop-{c}"}} for c in ("blue", "green")},
    }
    healthy = [{"pods": {"namespace": "shop", "labels": {"app": "backend"}}}]
    assert re.search(why, "; ".join(map(str, await _check(rollback, client_of(ready), healthy))))


async def _check(rollback: dict[str, Any], kube: Kubernetes, healthy: list[dict[str, Any]]) -> list[Problem]:
    """What `check --live` reports about a service."""
    service = Service.model_validate(
        {"name": "shop", "environment": "test", "rollback": rollback, "health_checks": healthy}
    )
    found: list[Problem] = []
    for target in targets_of(("services", 0), service, Gateway(FixedConnections({Kubernetes: kube}))):
        try:
            found += await target.ask()
        except StepFailed as failure:
            found.append(Problem(target.name, str(failure)))
    return found

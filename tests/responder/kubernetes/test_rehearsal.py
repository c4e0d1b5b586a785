"""`check --live` asks of a cluster what a plan asks: what would stop a rollback shows before it is needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from responder.errors import Halt
from responder.levers.kubernetes import PodTemplate, Replicas, ServiceSelector
from responder.levers.lever import Lever
from tests.apiserver import Cluster
from tests.apiserver.client import InProcess
from tests.apiserver.manifests import deployment, service, statefulset

TEMPLATE = PodTemplate(namespace="shop", deployment="backend")
ORDERED = PodTemplate(namespace="shop", statefulset="web")
SELECTOR = ServiceSelector(namespace="shop", service="backend")
STOP = Replicas(namespace="shop", deployment="backend")


@pytest.fixture
def ready(cluster: Cluster) -> Cluster:
    """A plain cluster, where nobody has installed anything."""
    cluster.apply(deployment("backend", "shop:1", labels={"app": "backend", "color": "blue"}))
    cluster.apply(statefulset("web", "shop:1"))
    cluster.apply(service("backend", {"app": "backend", "color": "blue"}))
    return cluster


@pytest.mark.parametrize("lever", [TEMPLATE, ORDERED, SELECTOR, STOP], ids=str)
async def test_a_plain_cluster_stands_in_no_way(lever: Lever, ready: Cluster) -> None:
    before = ready.version
    await lever.rehearse(InProcess(ready))
    assert ready.version == before


def _without_key(cluster: Cluster) -> None:
    found = cluster.get("Service", "shop", "backend")
    cluster.put({**found, "spec": {**found["spec"], "selector": {"app": "backend"}}}, before=found)


@pytest.mark.parametrize(
    ("lever", "change", "why"),
    [
        (TEMPLATE, lambda c: c.drop(c.get("Deployment", "shop", "backend")), "there is no Deployment shop/backend"),
        (TEMPLATE, lambda c: c.forbidden.add(("patch", "apps/deployments")), "may not patch Deployments in shop"),
        (TEMPLATE, lambda c: c.forbidden.add(("list", "pods")), "may not list Pods in shop"),
        (TEMPLATE, lambda c: c.forbidden.add(("list", "apps/replicasets")), "the ReplicaSets of shop: .* not let us"),
        (ORDERED, lambda c: c.forbidden.add(("delete", "pods")), "may not delete Pods in shop"),
        (SELECTOR, lambda c: c.drop(c.get("Service", "shop", "backend")), "there is no Service shop/backend"),
        (SELECTOR, _without_key, "Service shop/backend has no color in its selector"),
        (SELECTOR, lambda c: c.forbidden.add(("patch", "services")), "may not patch Services in shop"),
        (
            SELECTOR,
            lambda c: c.forbidden.add(("list", "discovery.k8s.io/endpointslices")),
            "may not list EndpointSlices in shop",
        ),
        (
            SELECTOR,
            lambda c: c.forbidden.add(("list", "autoscaling/horizontalpodautoscalers")),
            "may not list HorizontalPodAutoscalers in shop",
        ),
        (STOP, lambda c: c.forbidden.add(("patch", "apps/deployments")), "may not patch Deployments in shop"),
    ],
)
async def test_what_would_stop_a_plan_is_found(
    lever: Lever, change: Callable[[Cluster], Any], why: str, ready: Cluster
) -> None:
    change(ready)
    with pytest.raises(Halt, match=why):
        await lever.rehearse(InProcess(ready))


async def test_the_owners_are_asked_for_too(ready: Cluster) -> None:
    ready.installed.add("flagger.app")
    await TEMPLATE.rehearse(InProcess(ready))
    assert ("list", "flagger.app/canaries") in ready.requests

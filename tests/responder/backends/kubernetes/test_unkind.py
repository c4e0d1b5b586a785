"""Rollbacks with lagging controllers: serving pods keep serving, and stale conditions are ignored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from responder.backends.kubernetes.client import Kubernetes
from responder.backends.kubernetes.objects import MANAGER, failure_of, writer_of
from responder.rollback.execution import Execution
from tests.apiserver import Cluster, Image
from tests.apiserver.client import InProcess, client_of
from tests.apiserver.manifests import deployment, statefulset, workload
from tests.apiserver.real.cluster import RealCluster
from tests.responder.harness import Rollback

SEEDS = range(6)
RUNS = 0.05
"""Seconds between two checks of the serving pods."""


class Slow(InProcess):
    """Each request takes time, during which the controllers continue. Those of a real cluster always do."""

    def __init__(self, cluster: Cluster, wait: Callable[[float], None]) -> None:
        super().__init__(cluster)
        self._wait = wait

    async def _send(self, *request: Any) -> tuple[int, Any]:
        self._wait(0.1)
        return await super()._send(*request)


class Watched:
    """A rollback whose waits are split into short ones; counts the ready pods after each."""

    def __init__(self, cluster: Cluster, clock: Any, strategy: str = "immediate", **more: Any) -> None:
        self.cluster, self.clock = cluster, clock
        self.least = self.good = len(self._serving())
        kubernetes = {"namespace": "shop", more.pop("key", "deployment"): more.pop("name", "backend")}
        kubernetes |= {"within": more.pop("within", "120s")}
        options = {"strategy": strategy, "kubernetes": kubernetes, **more}
        healthy = [{"pods": {"namespace": "shop", "labels": {"app": "backend"}}}]
        client = client_of(cluster) if isinstance(cluster, RealCluster) else Slow(cluster, self._wait)
        self.rollback = Rollback(options, {Kubernetes: client}, wait=self._wait, health_checks=healthy)

    async def run(self) -> Execution:
        return await self.rollback.run()

    def _wait(self, seconds: float) -> None:
        while seconds > 0:
            self.clock.wait(min(seconds, RUNS))
            seconds -= RUNS
            self.cluster.handle("GET", "/version")
            self.least = min(self.least, len(self._serving()))

    def _serving(self) -> list[Any]:
        conditions = [pod.get("status", {}).get("conditions", ()) for pod in self.cluster.all("Pod", "shop")]
        return [of_pod for of_pod in conditions if any(c["type"] == "Ready" and c["status"] == "True" for c in of_pod)]


@pytest.fixture(params=SEEDS)
def cluster(request: pytest.FixtureRequest, real: RealCluster | None, clock: Any) -> Any:
    if real and request.param:
        pytest.skip("a real cluster has no seed")
    return real or Cluster(clock=clock, seed=request.param)


def half_rolled_out(cluster: Cluster, put_out: Callable[..., Any] = deployment, **more: Any) -> None:
    """Version 2 is never ready, so the rollout stops at the limits of its settings."""
    cluster.images["shop:2"] = Image(starts="never_ready")
    for version in "12":
        cluster.apply(put_out("backend", f"shop:{version}", **more))


def images(cluster: Cluster) -> set[str]:
    return {pod["spec"]["containers"][0]["image"] for pod in cluster.all("Pod", "shop")}


@pytest.mark.parametrize(
    ("strategy", "more"),
    [("immediate", {}), ("rolling", {}), ("rolling", {"surge": False, "batch_size": 2})],
    ids=["immediate", "rolling", "rolling without surge"],
)
async def test_serving_good_pods_stay(strategy: str, more: dict[str, Any], cluster: Cluster, clock: Any) -> None:
    half_rolled_out(cluster, replicas=4)
    how = cluster.get("Deployment", "shop", "backend")["spec"]["strategy"]
    watched = Watched(cluster, clock, strategy, **more)
    assert watched.good == 3
    ended = await watched.run()
    assert ended.outcome == "succeeded", ended.reason
    assert watched.least >= 3
    cluster.step()
    assert images(cluster) == {"shop:1"}
    assert cluster.get("Deployment", "shop", "backend")["spec"]["strategy"] == how


@pytest.mark.parametrize("strategy", ["immediate", "rolling"])
async def test_a_revert_keeps_serving_pods(strategy: str, cluster: Cluster, clock: Any) -> None:
    """The good version cannot scale up completely: its previous pods still exist after the revert."""
    half_rolled_out(cluster, replicas=4)
    cluster.quota = len(cluster.all("Pod", "shop"))
    watched = Watched(cluster, clock, strategy, within="20s")
    cluster.images["shop:1"] = Image(ready_after=9999.0)
    for pod in cluster.all("Pod", "shop"):
        pod["born"] -= 99999.0  # existing pods stay ready; new ones never become ready
    cluster.images["shop:2"] = Image(starts="crashes")
    ended = await watched.run()
    assert ended.outcome == "reverted", ended.reason
    assert watched.least >= 3
    assert cluster.get("Deployment", "shop", "backend")["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == "25%"


@pytest.mark.parametrize("strategy", ["immediate", "rolling"])
async def test_serving_pods_of_daemonsets_and_statefulsets_stay(strategy: str, cluster: Cluster, clock: Any) -> None:
    for n in range(2, 5):
        cluster.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"node-{n}"}})
    half_rolled_out(cluster, lambda name, image: workload("DaemonSet", name, image))
    watched = Watched(cluster, clock, strategy, key="daemonset")
    assert watched.good == 3
    ended = await watched.run()
    assert ended.outcome == "succeeded", ended.reason
    assert watched.least >= 3
    assert images(cluster) == {"shop:1"}


@pytest.mark.parametrize("strategy", ["immediate", "rolling"])
async def test_failed_statefulsets_are_rolled_back(strategy: str, cluster: Cluster, clock: Any) -> None:
    half_rolled_out(cluster, statefulset, replicas=4)
    watched = Watched(cluster, clock, strategy, key="statefulset")
    assert watched.good == 3
    ended = await watched.run()
    assert ended.outcome == "succeeded", ended.reason
    assert watched.least >= 3
    assert images(cluster) == {"shop:1"}


async def test_recreate_past_its_deadline_is_rolled_back(cluster: Cluster, clock: Any) -> None:
    """The condition is about the bad version, and remains for a while after the good one is set."""
    recreate = {"strategy": {"type": "Recreate"}, "progressDeadlineSeconds": 60}
    half_rolled_out(cluster, replicas=3, **recreate)
    clock.wait(61.0)
    cluster.step()
    conditions = cluster.get("Deployment", "shop", "backend")["status"]["conditions"]
    (progress,) = [condition for condition in conditions if condition["type"] == "Progressing"]
    assert progress["reason"] == "ProgressDeadlineExceeded"
    ended = await Watched(cluster, clock).run()
    assert ended.outcome == "succeeded", ended.reason
    assert images(cluster) == {"shop:1"}


@pytest.mark.parametrize("strategy", ["immediate", "rolling"])
async def test_stale_quota_errors_do_not_fail_the_good_version(strategy: str, cluster: Cluster, clock: Any) -> None:
    cluster.apply(deployment("backend", "shop:1", 3))
    cluster.quota = 3
    cluster.apply(deployment("backend", "shop:2", 3))
    assert "ReplicaFailure" in str(cluster.get("Deployment", "shop", "backend")["status"]["conditions"])
    watched = Watched(cluster, clock, strategy)
    ended = await watched.run()
    assert ended.outcome == "succeeded", ended.reason
    assert watched.least == 3


@pytest.mark.parametrize(
    ("starts", "why"), [("never_ready", "has timed out progressing"), ("crashes", "it keeps crashing")]
)
async def test_a_failing_good_version_is_detected(starts: str, why: str, cluster: Cluster, clock: Any) -> None:
    for version in "12":
        cluster.apply(deployment("backend", f"shop:{version}", 3, progressDeadlineSeconds=30))
    cluster.images["shop:1"] = Image(starts=starts)
    ended = await Watched(cluster, clock).run()
    assert ended.outcome == "reverted"
    assert why in ended.reason
    assert clock.now < 60.0


_DENIED = 'no pod can be created: pods "backend-6d-x" is forbidden'


@pytest.mark.parametrize(("replicas", "pods", "why"), [(3, 0, ""), (2, 3, ""), (2, 2, _DENIED)])
def test_a_temporarily_exceeded_quota_is_tolerated(replicas: int, pods: int, why: str) -> None:
    """The ReplicaSet has created all its pods since; the conditions stay until the next sync of each controller."""
    failure = {"type": "ReplicaFailure", "status": "True", "message": 'pods "backend-6d-x" is forbidden'}
    workload = {"metadata": {"name": "backend"}, "status": {"conditions": [failure]}}
    revision = {"metadata": {"name": "backend-6d"}, "spec": {"replicas": 3}, "status": {"replicas": replicas}}
    assert failure_of(workload, revision, pods) == why


def test_a_passed_deadline_is_explained() -> None:
    late = {
        "type": "Progressing",
        "reason": "ProgressDeadlineExceeded",
        "message": 'ReplicaSet "backend-6d" is late',
    }
    failure = {"type": "ReplicaFailure", "status": "True", "message": 'pods "backend-6d-x" is forbidden'}
    workload = {"metadata": {"name": "backend"}, "status": {"conditions": [failure, late]}}
    revision = {"metadata": {"name": "backend-6d"}, "spec": {"replicas": 3}, "status": {"replicas": 2}}
    assert failure_of(workload, revision, 2) == f'ReplicaSet "backend-6d" is late {_DENIED}'


@pytest.mark.parametrize("other", ["argocd-controller", "tests"])
def test_a_change_within_the_same_second_is_attributed_to_the_other_writer(other: str) -> None:
    """An API server keeps whole seconds, and the responder may own other fields of the template."""
    fields = [{"f:spec": {"f:template": {field: {}}}} for field in ("f:spec", "f:metadata")]
    entries = [
        {"manager": manager, "time": "2026-11-30T16:00:00Z", "fieldsV1": field}
        for manager, field in zip((MANAGER, other), fields, strict=True)
    ]
    assert writer_of({"metadata": {"managedFields": entries}}, "spec", "template") == other

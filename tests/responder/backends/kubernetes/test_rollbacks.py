"""Complete rollbacks in a cluster: refusals before the start, reverts, and the final state."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from responder.backends.kubernetes.client import Kubernetes
from responder.backends.kubernetes.pods_check import PodsCheck
from responder.backends.kubernetes.rollout import RolloutPaused
from responder.backends.prometheus.client import Prometheus, Sample
from responder.backends.resource import Resource
from responder.rollback.events import StepFailed
from responder.rollback.execution import Execution
from responder.rollback.plan import Change, Plan
from responder.rollback.ports import StopRequest
from tests.apiserver import Cluster, Image
from tests.apiserver.client import client_of
from tests.apiserver.controllers.autoscaling import autoscale
from tests.apiserver.manifests import autoscaler, deployment, service, statefulset, workload
from tests.responder.harness import Rollback

BACKEND = {"namespace": "shop", "deployment": "backend"}
HEALTHY = [{"pods": {"namespace": "shop", "labels": {"app": "backend"}}}]


@pytest.fixture
def bad(cluster: Cluster) -> Cluster:
    """Version 2 runs, and 1 was good."""
    for version in "12":
        cluster.apply(deployment("backend", f"shop:{version}", 6))
    return cluster


def rollback(cluster: Cluster, strategy: dict[str, Any], clock: Any, **more: Any) -> Rollback:
    return Rollback(strategy, {Kubernetes: client_of(cluster)}, wait=clock.wait, **{"health_checks": HEALTHY, **more})


def image(cluster: Cluster, kind: str = "Deployment", name: str = "backend") -> str:
    return str(cluster.get(kind, "shop", name)["spec"]["template"]["spec"]["containers"][0]["image"])


def immediate(**more: Any) -> dict[str, Any]:
    return {"strategy": "immediate", "kubernetes": {**BACKEND, **more}}


def rolling(**more: Any) -> dict[str, Any]:
    return {"strategy": "rolling", "kubernetes": BACKEND, **more}


async def test_a_rolling_rollback_replaces_batch_by_batch(bad: Cluster, clock: Any) -> None:
    seen: list[tuple[int, int]] = []
    strategy = rolling(batch_size=2, batch_delay="30s", health_check_interval="10s")
    harness = rollback(bad, strategy, clock)
    at = clock.wait

    def wait(seconds: float) -> None:
        at(seconds)
        bad.step()
        pods = [p["spec"]["containers"][0]["image"] for p in bad.all("Pod")]
        seen.append((pods.count("shop:1"), len(pods)))

    harness.stop_signal._wait = wait
    before = bad.get("Deployment", "shop", "backend")["spec"]
    ended = await harness.run()
    assert ended.outcome == "succeeded", ended.reason
    assert image(bad) == "shop:1"
    news = [new for new, _ in seen]
    assert max(b - a for a, b in zip([2, *news], news, strict=False)) <= 2  # at most one batch at a time
    assert max(total for _, total in seen) <= 8
    assert clock.now >= 60
    after = bad.get("Deployment", "shop", "backend")["spec"]
    assert {k: v for k, v in after.items() if k != "template"} == {k: v for k, v in before.items() if k != "template"}


async def test_an_unhealthy_batch_is_reverted_before_the_next_one(bad: Cluster, clock: Any) -> None:
    bad.images["shop:1"] = Image(starts="crashes")
    ended = await rollback(bad, rolling(batch_size=1), clock).run()
    assert ended.outcome == "reverted"
    assert "it keeps crashing" in ended.reason
    assert image(bad) == "shop:2"
    assert bad.get("Deployment", "shop", "backend")["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == "25%"


async def test_a_failed_check_of_a_batch_reverts(bad: Cluster, clock: Any) -> None:
    sick = {"pods": {"namespace": "shop", "labels": {"app": "backend", "only": "in-a-dream"}}}
    strategy = rolling(batch_delay="30s", health_check_interval="10s", batch_healthy=[sick])
    ended = await rollback(bad, strategy, clock).run()
    assert ended.outcome == "reverted"
    assert "while the pod template of Deployment shop/backend converged: 0 of 0 pods" in ended.reason
    assert image(bad) == "shop:2"


async def test_missing_capacity_is_reported_and_not_needed_without_surge(bad: Cluster, clock: Any) -> None:
    bad.quota = 6
    ended = await rollback(bad, rolling(), clock).run()
    assert ended.outcome == "reverted"
    assert "no pod can be created" in ended.reason
    assert "exceeded quota" in ended.reason
    ended = await rollback(bad, rolling(surge=False), clock).run()
    assert ended.outcome == "succeeded", ended.reason


async def test_rolling_has_no_batches_in_a_recreate_deployment(cluster: Cluster, clock: Any) -> None:
    for version in "12":
        cluster.apply(deployment("backend", f"shop:{version}", 2, strategy={"type": "Recreate"}))
    ended = await rollback(cluster, rolling(), clock).run()
    assert "has the strategy Recreate, which has no batches: use immediate" in ended.reason
    ended = await rollback(cluster, immediate(), clock).run()
    assert ended.outcome == "succeeded"


async def test_a_batch_delay_past_the_progress_deadline_raises_it_meanwhile(bad: Cluster, clock: Any) -> None:
    found = bad.get("Deployment", "shop", "backend")
    bad.put({**found, "spec": {**found["spec"], "progressDeadlineSeconds": 20}}, before=found)
    bad.step()
    harness = rollback(bad, rolling(batch_size=3, batch_delay="30s"), clock)
    assert "minReadySeconds 30, progressDeadlineSeconds 50" in (await harness.steps())[0]
    ended = await harness.run()
    assert ended.outcome == "succeeded", ended.reason
    assert bad.get("Deployment", "shop", "backend")["spec"]["progressDeadlineSeconds"] == 20


async def test_drift_in_the_middle_names_the_settings_that_stay(bad: Cluster, clock: Any) -> None:
    bad.images["shop:1"] = Image(ready_after=60.0)
    harness = rollback(bad, rolling(batch_size=2), clock)
    clock_waits = clock.wait

    def wait(seconds: float) -> None:
        clock_waits(seconds)
        if clock.now > 5.0 and image(bad) == "shop:1":
            bad.apply(deployment("backend", "shop:3", 6))

    harness.stop_signal._wait = wait
    ended = await harness.run()
    assert ended.state == "stuck"
    assert "is backend-" in ended.reason
    assert "(shop:3), maxUnavailable 0, maxSurge 2 now: changed by tests" in ended.reason


async def test_immediate_replaces_all_pods_at_once(bad: Cluster, clock: Any) -> None:
    steps = await rollback(bad, immediate(), clock).steps()
    assert [step.partition(":")[0] for step in steps] == [
        "pod template of Deployment shop/backend",
        "rollout settings of Deployment shop/backend",
        "shop is healthy, within 5s",
    ]
    before, after = steps[0].split(" → ")
    assert before.endswith("(shop:2), maxUnavailable 25%, maxSurge 25%")
    assert after.endswith("(shop:1), maxUnavailable 100%, maxSurge 0")
    assert (await rollback(bad, immediate(), clock).run()).outcome == "succeeded"


async def test_a_daemonset_is_rolled_back(cluster: Cluster, clock: Any) -> None:
    for n in (2, 3):
        cluster.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"node-{n}"}})
    for version in "12":
        cluster.apply(workload("DaemonSet", "agent", f"shop:{version}"))
    strategy = {"strategy": "rolling", "kubernetes": {"namespace": "shop", "daemonset": "agent"}, "batch_size": 2}
    healthy = [{"pods": {"namespace": "shop", "labels": {"app": "agent"}, "at_least": 3}}]
    ended = await rollback(cluster, strategy, clock, health_checks=healthy).run()
    assert ended.outcome == "succeeded", ended.reason
    assert image(cluster, "DaemonSet", "agent") == "shop:1"


async def test_a_statefulset_is_rolled_back_from_the_highest_ordinal(cluster: Cluster, clock: Any) -> None:
    for version in "12":
        cluster.apply(statefulset("web", f"shop:{version}", 5))
    strategy = {"strategy": "rolling", "kubernetes": {"namespace": "shop", "statefulset": "web"}, "batch_size": 2}
    harness = rollback(
        cluster, strategy, clock, health_checks=[{"pods": {"namespace": "shop", "labels": {"app": "web"}}}]
    )
    steps = [step for step in await harness.steps() if "partition" in step]
    assert [step.partition(": ")[2] for step in steps] == ["0 → 5", "5 → 3", "3 → 1", "1 → 0"]
    ended = await harness.run()
    assert ended.outcome == "succeeded", ended.reason
    assert cluster.get("StatefulSet", "shop", "web")["spec"]["updateStrategy"]["rollingUpdate"]["partition"] == 0


async def test_a_statefulset_stuck_in_the_bad_version_is_released(cluster: Cluster, clock: Any) -> None:
    cluster.images["shop:2"] = Image(starts="crashes")
    for version in "12":
        cluster.apply(statefulset("web", f"shop:{version}", 3))
    strategy = {"strategy": "rolling", "kubernetes": {"namespace": "shop", "statefulset": "web"}}
    harness = rollback(
        cluster, strategy, clock, health_checks=[{"pods": {"namespace": "shop", "labels": {"app": "web"}}}]
    )
    ended = await harness.run()
    assert ended.outcome == "succeeded", ended.reason
    assert ended.plan
    assert "waits for each of them: no batches" in ended.plan.notes[0]


ClusterChange = Callable[[Cluster], Any]


def _paused(cluster: Cluster) -> None:
    edit(cluster, spec={"paused": True})


def _deleting(cluster: Cluster) -> None:
    edit(cluster, metadata={"deletionTimestamp": "2026-11-24T00:00:00Z"})


def edit(cluster: Cluster, **parts: dict[str, Any]) -> None:
    found = cluster.get("Deployment", "shop", "backend")
    cluster.put({**found, **{key: {**found[key], **value} for key, value in parts.items()}}, before=found)


def _needs_a_config_map(cluster: Cluster) -> None:
    """The good version needs it, and it no longer exists."""
    for rs in cluster.all("ReplicaSet"):
        containers = rs["spec"]["template"]["spec"]["containers"]
        containers[0]["envFrom"] = [{"configMapRef": {"name": "settings-1"}}]
        rs["spec"]["template"]["spec"]["volumes"] = [{"name": "s", "secret": {"secretName": "keys-1"}}]
    found = cluster.get("Deployment", "shop", "backend")
    spec = found["spec"]["template"]["spec"]
    spec["containers"][0]["envFrom"] = [{"configMapRef": {"name": "settings-1"}}]
    spec["volumes"] = [{"name": "s", "secret": {"secretName": "keys-1"}}]


def _owner(version: str, kind: str, name: str) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "name": name, "uid": "k"}


def _owned_by(**meta: Any) -> Change:
    return lambda cluster: edit(cluster, metadata=meta)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_paused, "the rollout of Deployment shop/backend is paused"),
        (_deleting, "is being deleted"),
        (_needs_a_config_map, "needs objects that no longer exist: ConfigMap settings-1, Secret keys-1"),
        (lambda c: c.forbidden.add(("patch", "apps/deployments")), "account cannot patch Deployment backend in shop"),
        (lambda c: c.apply(deployment("backend", "shop:3", 6)), "2 was reported as running"),
        (lambda c: c.drop(c.get("Deployment", "shop", "backend")), "Deployment shop/backend does not exist"),
        (_owned_by(annotations={"argocd.argoproj.io/tracking-id": "web:apps/Deployment:shop/backend"}), "Argo CD"),
        (_owned_by(labels={"kustomize.toolkit.fluxcd.io/name": "apps"}), r"belongs to Flux \(Kustomization apps\)"),
        (_owned_by(labels={"helm.toolkit.fluxcd.io/name": "web"}), r"belongs to Flux \(HelmRelease web\)"),
        (_owned_by(annotations={"meta.helm.sh/release-name": "web"}), r"belongs to Helm \(release web\)"),
        (
            _owned_by(ownerReferences=[_owner("kafka.strimzi.io/v1", "Kafka", "events") | {"controller": True}]),
            r"belongs to Kafka events",
        ),
        (
            _owned_by(ownerReferences=[_owner("argoproj.io/v1alpha1", "Rollout", "web")]),
            r"belongs to Argo Rollouts \(Rollout web\)",
        ),
        (
            lambda c: c.put({
                "apiVersion": "flagger.app/v1beta1", "kind": "Canary", "metadata": {"name": "web", "namespace": "shop"},
                "spec": {"targetRef": {"kind": "Deployment", "name": "backend"}},
            }),
            r"belongs to Flagger \(Canary web\)",
        ),
    ],
)  # fmt: skip
async def test_problems_are_refused_before_the_first_change(
    change: ClusterChange, why: str, bad: Cluster, clock: Any
) -> None:
    change(bad)
    bad.step()
    before = bad.requests.copy()
    ended = await rollback(bad, immediate(), clock).run()
    assert ended.outcome == "failed"
    assert re.search(why, ended.reason), ended.reason
    writes = [r for r in bad.requests[len(before) :] if r[0] in ("create", "update", "delete")]
    assert not [r for r in writes if r[1] != "authorization.k8s.io/selfsubjectaccessreviews"]


async def test_forbidden_reads_are_noted(bad: Cluster, clock: Any) -> None:
    _needs_a_config_map(bad)
    bad.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings-1", "namespace": "shop"}})
    bad.forbidden.add(("get", "secrets"))
    plan = await rollback(bad, immediate(), clock).plan()
    assert plan.notes == ("cannot check whether Secret keys-1 still exist: permission denied",)


async def test_a_paused_rollout_is_resumed_if_configured(bad: Cluster, clock: Any) -> None:
    _paused(bad)
    ended = await rollback(bad, immediate(when_paused="resume"), clock).run()
    assert ended.outcome == "succeeded", ended.reason
    assert image(bad) == "shop:1"
    assert "paused" not in bad.get("Deployment", "shop", "backend")["spec"]
    assert {p["spec"]["containers"][0]["image"] for p in bad.all("Pod")} == {"shop:1"}


APPLICATION = {
    "apiVersion": "argoproj.io/v1alpha1", "kind": "Application", "metadata": {"name": "web", "namespace": "argocd"},
    "spec": {"syncPolicy": {"automated": {"selfHeal": True}}},
}  # fmt: skip
RELEASE = {
    "apiVersion": "helm.toolkit.fluxcd.io/v2", "kind": "HelmRelease", "metadata": {"name": "web", "namespace": "shop"},
    "spec": {"interval": "5m"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("meta", "suspended", "note"),
    [
        (
            {"annotations": {"argocd.argoproj.io/tracking-id": "web:apps/Deployment:shop/backend"}},
            lambda c: c.get("Application", "argocd", "web")["spec"]["syncPolicy"]["automated"]["enabled"] is False,
            "Argo CD (application web) stays suspended afterwards: fix web in Git, then resume it",
        ),
        (
            {"labels": {"kustomize.toolkit.fluxcd.io/name": "apps"}},
            lambda c: (
                c.get("Deployment", "shop", "backend")["metadata"]["annotations"][
                    "kustomize.toolkit.fluxcd.io/reconcile"
                ]
                == "disabled"
            ),
            "Flux (Kustomization apps) stays suspended",
        ),
        (
            {"labels": {"helm.toolkit.fluxcd.io/name": "web"}},
            lambda c: c.get("HelmRelease", "shop", "web")["spec"]["suspend"],
            "Flux (HelmRelease web) stays suspended",
        ),
        (
            {"annotations": {"meta.helm.sh/release-name": "web"}},
            lambda c: True,
            "Helm (release web): run `helm rollback web`, or the next upgrade undoes it",
        ),
    ],
)
async def test_reconciliation_is_suspended_as_narrowly_as_possible(
    meta: dict[str, Any], suspended: ClusterChange, note: str, bad: Cluster, clock: Any
) -> None:
    for manifest in (APPLICATION, RELEASE):
        bad.apply(manifest)
    edit(bad, metadata=meta)
    ended = await rollback(bad, immediate(gitops="suspend"), clock).run()
    assert ended.outcome == "succeeded", ended.reason
    assert suspended(bad)
    assert ended.plan
    assert ended.plan.notes[0].startswith(note)
    assert image(bad) == "shop:1"


@pytest.mark.parametrize(
    "tracking",
    ["elsewhere:apps/Deployment:shop/backend", "Not A Name:apps/Deployment:shop/backend", ":::"],
)
async def test_an_owner_that_cannot_be_suspended_is_not_overridden(tracking: str, bad: Cluster, clock: Any) -> None:
    bad.apply(APPLICATION)
    edit(bad, metadata={"annotations": {"argocd.argoproj.io/tracking-id": tracking}})
    ended = await rollback(bad, immediate(gitops="suspend"), clock).run()
    assert (ended.outcome, "belongs to Argo CD" in ended.reason) == ("failed", True), ended.reason
    assert image(bad) == "shop:2"


async def test_a_resumed_rollout_has_the_full_deadline(bad: Cluster, clock: Any) -> None:
    _paused(bad)
    plan = await rollback(bad, immediate(when_paused="resume", within="20m"), clock).plan()
    *_, resume = [step for step in plan.steps if isinstance(step, Change) and isinstance(step.resource, RolloutPaused)]
    assert resume.after is False
    assert resume.resource.converge_timeout == 1200


async def test_a_revert_resumes_reconciliation(bad: Cluster, clock: Any) -> None:
    bad.apply(RELEASE)
    edit(bad, metadata={"labels": {"helm.toolkit.fluxcd.io/name": "web"}})
    bad.images["shop:1"] = Image(starts="pull_fails")
    ended = await rollback(bad, immediate(gitops="suspend"), clock).run()
    assert ended.outcome == "reverted"
    assert "suspend" not in bad.get("HelmRelease", "shop", "web")["spec"]


async def test_a_competing_writer_is_reported_as_drift(bad: Cluster, clock: Any) -> None:
    clock.wait(2.0)  # an API server keeps the time of a write in whole seconds
    harness = rollback(bad, immediate(), clock)
    stood: list[str] = []

    def wait(seconds: float) -> None:
        clock.wait(seconds)
        if image(bad) == "shop:1" and not stood:
            stood.append("once")
            bad.manager = "argocd-controller"
            bad.apply(deployment("backend", "shop:2", 6))

    harness.stop_signal._wait = wait

    def patient(plan: Plan) -> Plan:
        verify = plan.steps[-1].model_copy(update={"hold_for": 10.0, "within": 60.0})
        return plan.model_copy(update={"steps": (*plan.steps[:-1], verify)})

    ended = await harness.run(through=patient)
    assert ended.state == "stuck"
    assert "changed by argocd-controller" in ended.reason
    (halted,) = [event for event in harness.record.events if isinstance(event, StepFailed)]
    assert halted.drift
    assert halted.reverted_by == "argocd-controller"
    assert image(bad) == "shop:2"


# --- blue-green ---


def colors(cluster: Cluster, *, blue: int = 0, green: int = 3, blue_runs: str = "1") -> None:
    for color, versions, replicas in (("blue", ("1", blue_runs), blue), ("green", ("1", "2"), green)):
        for version in versions:
            labels = {"app": "backend", "color": color}
            cluster.apply(deployment(f"backend-{color}", f"shop:{version}", replicas, labels=labels))
    cluster.apply(service("backend", {"app": "backend", "color": "green"}))


def blue_green(**more: Any) -> dict[str, Any]:
    colors_of = {c: {"kubernetes": {"namespace": "shop", "deployment": f"backend-{c}"}} for c in ("blue", "green")}
    pointer = {"namespace": "shop", "service": "backend"}
    return {"strategy": "blue_green", "pointer": pointer, "colors": colors_of, "ready_for": "1s", **more}


def selector(cluster: Cluster) -> str:
    return str(cluster.get("Service", "shop", "backend")["spec"]["selector"]["color"])


async def test_blue_green_scales_the_idle_color_up_first(cluster: Cluster, clock: Any) -> None:
    colors(cluster)
    cluster.images["shop:1"] = Image(ready_after=5.0)
    harness, ready = rollback(cluster, blue_green(keep_pods=2, failed_replicas=1), clock), []

    def wait(seconds: float) -> None:
        clock.wait(seconds)
        cluster.step()
        blue = [p for p in cluster.all("Pod") if p["metadata"]["labels"].get("color") == "blue"]
        ready.append((selector(cluster), sum("'True'" in str(p["status"]["conditions"]) for p in blue)))

    harness.stop_signal._wait = wait
    ended = await harness.run()
    assert ended.outcome == "succeeded", ended.reason
    assert all(count == 3 for color, count in ready if color == "blue")
    assert selector(cluster) == "blue"
    kept = [p for p in cluster.all("Pod") if "rollback-responder.io/kept" in p["metadata"]["labels"]]
    assert len(kept) == 2
    assert {p["spec"]["containers"][0]["image"] for p in kept} == {"shop:2"}
    assert image(cluster, name="backend-green") == "shop:2"
    assert cluster.get("Deployment", "shop", "backend-green")["spec"]["replicas"] == 1


async def test_missing_permission_to_keep_pods_does_not_stop_the_rollback(cluster: Cluster, clock: Any) -> None:
    colors(cluster)
    cluster.forbidden.add(("patch", "pods"))
    ended = await rollback(cluster, blue_green(), clock).run()
    assert ended.outcome == "succeeded", ended.reason
    assert ended.plan
    assert ended.plan.notes == ("no pod is kept for analysis: the responder's account cannot patch pods in shop",)


async def test_an_idle_color_that_does_not_start_gets_no_traffic(cluster: Cluster, clock: Any) -> None:
    colors(cluster, blue_runs="3")
    cluster.images["shop:1"] = Image(starts="crashes")
    ended = await rollback(cluster, blue_green(), clock).run()
    assert ended.outcome == "reverted"
    assert "it keeps crashing" in ended.reason
    assert selector(cluster) == "green"
    assert cluster.get("Deployment", "shop", "backend-blue")["spec"]["replicas"] == 0
    assert image(cluster, name="backend-blue") == "shop:3"


async def test_a_color_that_fails_under_traffic_is_switched_back(cluster: Cluster, clock: Any) -> None:
    colors(cluster)
    harness = rollback(cluster, blue_green(ready_for="5s"), clock)  # kubelets notice it within seconds

    def wait(seconds: float) -> None:
        clock.wait(seconds)
        if selector(cluster) == "blue":
            cluster.images["shop:1"] = Image(starts="crashes")

    harness.stop_signal._wait = wait
    ended = await harness.run()
    assert ended.outcome == "reverted"
    assert "blue is ready with traffic" in ended.reason
    assert selector(cluster) == "green"


@pytest.mark.parametrize(("most", "wanted"), [(2, 2), (10, 3)])
async def test_an_autoscaler_of_the_idle_color_is_respected(
    most: int, wanted: int, cluster: Cluster, clock: Any
) -> None:
    colors(cluster)
    cluster.apply(autoscaler("backend-blue", most))
    ended = await rollback(cluster, blue_green(), clock).run()
    assert ended.outcome == "succeeded", ended.reason
    assert cluster.get("Deployment", "shop", "backend-blue")["spec"]["replicas"] == wanted


async def test_a_failed_color_with_an_autoscaler_is_not_scaled(cluster: Cluster, clock: Any) -> None:
    colors(cluster)
    cluster.apply(autoscaler("backend-green", 5))
    ended = await rollback(cluster, blue_green(failed_replicas=1), clock).run()
    assert ended.outcome == "succeeded", ended.reason
    assert ended.plan
    assert "stays at 3: a HorizontalPodAutoscaler scales it" in ended.plan.notes[0]
    assert cluster.get("Deployment", "shop", "backend-green")["spec"]["replicas"] == 3


async def test_an_unknown_color_fails(cluster: Cluster, clock: Any) -> None:
    colors(cluster)
    cluster.apply(service("backend", {"app": "backend", "color": "red"}))
    ended: Execution = await rollback(cluster, blue_green(), clock).run()
    assert "names 'red', neither blue nor green; nothing was changed" in ended.reason


async def test_a_color_without_replicas_gets_no_traffic_on_revert(cluster: Cluster, clock: Any) -> None:
    colors(cluster)
    cluster.images["shop:2"] = Image(ready_after=20.0)
    clock.wait(60.0)
    cluster.step()
    harness, served = rollback(cluster, blue_green(failed_replicas=0), clock), []

    async def requested(execution: Execution, *, about_to_act: bool) -> StopRequest | None:
        verifying = execution.plan is not None and execution.todo[:1] == execution.plan.steps[-1:]
        return StopRequest("somebody", "to see") if verifying else None

    def wait(seconds: float) -> None:
        clock.wait(seconds)
        cluster.step()
        pods = [p for p in cluster.all("Pod") if p["metadata"]["labels"].get("color") == selector(cluster)]
        served.append(sum("'True'" in str(p["status"]["conditions"]) for p in pods))

    harness.stop_signal._wait, harness.stop_signal.requested = wait, requested  # type: ignore[method-assign]
    ended = await harness.run()
    assert ended.outcome == "cancelled", ended.reason
    assert selector(cluster) == "green"
    assert min(served) == 3


def _loaded(cluster: Cluster, load: dict[str, int]) -> Callable[[str], int]:
    return lambda name: load["traffic"] if name == f"backend-{selector(cluster)}" else 0


def autoscaled(harness: Rollback, cluster: Cluster, clock: Any, load: dict[str, int]) -> None:
    def wait(seconds: float) -> None:
        clock.wait(seconds)
        autoscale(cluster, _loaded(cluster, load))
        cluster.step()

    harness.stop_signal._wait = wait


async def test_the_autoscaler_minimum_is_raised_before_the_switch(cluster: Cluster, clock: Any) -> None:
    colors(cluster, blue=1, green=4)
    cluster.images["shop:1"] = Image(ready_after=40.0)
    cluster.apply(autoscaler("backend-blue", 10))
    harness = rollback(cluster, blue_green(), clock)
    autoscaled(harness, cluster, clock, {"traffic": 4})
    switched_with: list[int] = []
    wait = harness.stop_signal._wait
    assert wait

    def watching(seconds: float) -> None:
        wait(seconds)
        if selector(cluster) == "blue" and not switched_with:
            switched_with.append(cluster.get("Deployment", "shop", "backend-blue")["status"]["readyReplicas"])

    harness.stop_signal._wait = watching
    ended = await harness.run()
    assert ended.outcome == "succeeded", ended.reason
    assert switched_with == [4]
    assert cluster.get("HorizontalPodAutoscaler", "shop", "backend-blue")["spec"]["minReplicas"] == 4
    assert ended.plan
    assert "keeps a minimum of 4 pods afterwards (before: 1)" in ended.plan.notes[0]


async def test_scaling_by_an_autoscaler_is_no_drift(cluster: Cluster, clock: Any) -> None:
    colors(cluster, blue=1, green=4)
    for color in ("blue", "green"):
        cluster.apply(autoscaler(f"backend-{color}", 10))
    harness, load = rollback(cluster, blue_green(failed_replicas=0), clock), {"traffic": 9}
    autoscaled(harness, cluster, clock, load)
    ended = await harness.run()
    assert ended.outcome == "succeeded", ended.reason
    assert cluster.get("Deployment", "shop", "backend-green")["spec"]["replicas"] == 0


@pytest.mark.parametrize("blue", [0, 1])
async def test_a_revert_restores_the_autoscaler_minimum(blue: int, cluster: Cluster, clock: Any) -> None:
    colors(cluster, blue=blue, green=4)
    cluster.apply(autoscaler("backend-blue", 10))
    sick = [{"http": "http://127.0.0.1:1/"}]
    strategy = blue_green(ready_within="5s")
    strategy["colors"]["blue"]["ready"] = sick
    harness = rollback(cluster, strategy, clock)
    autoscaled(harness, cluster, clock, {"traffic": 4})
    ended = await harness.run()
    assert ended.outcome == "reverted", ended.reason
    autoscale(cluster, _loaded(cluster, {"traffic": 4}))
    assert cluster.get("Deployment", "shop", "backend-blue")["spec"]["replicas"] == blue
    assert cluster.get("HorizontalPodAutoscaler", "shop", "backend-blue")["spec"].get("minReplicas", 1) == 1


@pytest.mark.parametrize("owner", ["", "ScaledObject"])
async def test_an_unchangeable_autoscaler_minimum_is_reported(owner: str, cluster: Cluster, clock: Any) -> None:
    colors(cluster, blue=1, green=4)
    cluster.apply(autoscaler("backend-blue", 10))
    if owner:
        found = cluster.get("HorizontalPodAutoscaler", "shop", "backend-blue")
        found["metadata"]["ownerReferences"] = [{"kind": owner, "name": "blue", "uid": "k", "controller": True}]
    else:
        cluster.forbidden.add(("patch", "autoscaling/horizontalpodautoscalers"))
    plan = await rollback(cluster, blue_green(), clock).plan()
    assert "may remove pods of Deployment shop/backend-blue before the switch" in plan.notes[0]
    assert not [step for step in plan.steps if "autoscaler" in str(step)]


async def test_a_moved_tag_is_detected_at_an_idle_color_without_pods(cluster: Cluster, clock: Any) -> None:
    good = f"sha256:{'a' * 64}"
    colors(cluster)
    cluster.images["shop:1"] = Image(digest=f"sha256:{'b' * 64}")
    ended = await rollback(cluster, blue_green(ready_within="5s"), clock, artifact=f"shop@{good}").run()
    assert selector(cluster) == "green"
    assert ended.outcome == "reverted"
    assert f"runs sha256:{'b' * 64}" in ended.reason


@pytest.mark.parametrize("strategy", [rolling(batch_size=1, batch_delay="3m"), rolling(batch_size=2, batch_delay="5m")])
async def test_long_batches_have_enough_time(strategy: Any, bad: Cluster, clock: Any) -> None:
    ended = await rollback(bad, strategy, clock).run()
    assert ended.outcome == "succeeded", ended.reason
    assert image(bad) == "shop:1"


async def test_a_statefulset_with_an_unhealthy_batch_is_reverted_completely(cluster: Cluster, clock: Any) -> None:
    for version in "12":
        cluster.apply(statefulset("web", f"shop:{version}", 3))
    cluster.step()
    cluster.images["shop:1"] = Image(starts="crashes")
    strategy = {"strategy": "rolling", "kubernetes": {"namespace": "shop", "statefulset": "web"}}
    ended = await rollback(cluster, strategy, clock).run()
    assert ended.outcome == "reverted", ended.reason
    cluster.step()
    pods = cluster.all("Pod")
    assert [p["spec"]["containers"][0]["image"] for p in pods] == ["shop:2"] * 3
    assert all("'True'" in str(p["status"]["conditions"]) for p in pods)


async def test_a_resumed_rollout_is_verified(bad: Cluster, clock: Any) -> None:
    _paused(bad)
    bad.images["shop:1"] = Image(starts="pull_fails")
    ended = await rollback(bad, immediate(when_paused="resume"), clock).run()
    assert ended.outcome == "reverted", ended.reason
    assert "its image cannot be pulled" in ended.reason
    assert clock.now < 60
    # Paused again only after the failed rollout has no pods.
    assert bad.get("Deployment", "shop", "backend")["spec"]["paused"]
    assert [p["spec"]["containers"][0]["image"] for p in bad.all("Pod")] == ["shop:2"] * 6


async def test_a_resumed_rollout_has_its_batches_checked(bad: Cluster, clock: Any) -> None:
    _paused(bad)
    sick = {"pods": {"namespace": "shop", "labels": {"app": "backend", "only": "in-a-dream"}}}
    strategy = rolling(batch_delay="30s", health_check_interval="10s", batch_healthy=[sick])
    strategy["kubernetes"] = {**BACKEND, "when_paused": "resume"}
    ended = await rollback(bad, strategy, clock).run()
    assert ended.outcome == "reverted", ended.reason
    assert "0 of 0 pods" in ended.reason


async def test_a_moved_tag_is_detected_after_a_resumed_rollout(bad: Cluster, clock: Any) -> None:
    _paused(bad)
    bad.images["shop:1"] = Image(digest=f"sha256:{'b' * 64}")
    strategy, good = immediate(when_paused="resume"), f"shop@sha256:{'a' * 64}"
    ended = await rollback(bad, strategy, clock, artifact=good).run()
    assert ended.outcome == "reverted", ended.reason
    assert f"runs sha256:{'b' * 64}" in ended.reason


async def test_a_rollout_in_the_idle_color_is_not_interrupted(cluster: Cluster, clock: Any) -> None:
    colors(cluster, blue=2)
    cluster.images["shop:3"] = Image(ready_after=60.0)
    cluster.apply(deployment("backend-blue", "shop:3", 2, labels={"app": "backend", "color": "blue"}))
    cluster.step()
    ended = await rollback(cluster, blue_green(), clock).run()
    assert ended.outcome == "failed", ended.reason
    assert "shop:3 is being rolled out" in ended.reason
    assert image(cluster, name="backend-blue") == "shop:3"


async def test_argo_cd_tracking_by_label_is_detected(bad: Cluster, clock: Any) -> None:
    edit(bad, metadata={"labels": {"app.kubernetes.io/instance": "web"}})
    assert (await rollback(bad, immediate(), clock).plan()).steps  # set by plain Helm charts too
    bad.apply(APPLICATION)
    ended = await rollback(bad, immediate(), clock).run()
    assert ended.outcome == "failed"
    assert "belongs to Argo CD (application web)" in ended.reason


async def test_an_argo_rollout_that_refers_to_the_deployment_is_detected(bad: Cluster, clock: Any) -> None:
    bad.put({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "backend"}},
    })  # fmt: skip
    ended = await rollback(bad, immediate(), clock).run()
    assert ended.outcome == "failed"
    assert "belongs to Argo Rollouts (Rollout web)" in ended.reason


async def test_an_unavailable_control_plane_does_not_revert(
    bad: Cluster, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Resource, "timeout", property(lambda resource: 0.05))
    bad.images["shop:1"] = Image(ready_after=60.0)
    harness = rollback(bad, immediate(), clock)
    handle = bad.handle

    def away(*request: Any) -> Any:
        written = image(bad) == "shop:1"
        return (503, {"message": "shutting down"}) if written and 5.0 < clock.now < 90.0 else handle(*request)

    bad.handle = away  # type: ignore[method-assign]
    ended = await harness.run()
    assert ended.outcome == "succeeded", ended.reason
    assert clock.now >= 90.0


class Silent(Prometheus):
    """Has no data of the good version until it is scraped."""

    def __init__(self, clock: Any, first: float, value: float) -> None:
        self._clock, self._first, self._value = clock, first, value

    async def query(self, query: str, *, at: Any = None) -> list[Sample]:
        return [Sample(labels={}, value=self._value)] if self._clock.now >= self._first else []


@pytest.mark.parametrize(
    ("first", "value", "outcome", "why"),
    [
        (20.0, 0.0, "succeeded", ""),
        (20.0, 1.0, "reverted", "expected at most 0"),
        (9999.0, 0.0, "reverted", "no data"),
    ],
)
async def test_a_batch_without_results_is_inconclusive(
    first: float, value: float, outcome: str, why: str, bad: Cluster, clock: Any
) -> None:
    strategy = rolling(batch_size=3, batch_delay="30s", health_check_interval="10s")
    strategy["batch_healthy"] = [{"promql": 'errors{version="1"}', "at_most": 0}]
    clients = {Kubernetes: client_of(bad), Prometheus: Silent(clock, first, value)}
    harness = Rollback(strategy, clients, wait=clock.wait, health_checks=HEALTHY)
    ended = await harness.run()
    assert ended.outcome == outcome, ended.reason
    assert why in ended.reason


async def test_a_template_changed_during_a_pause_is_reported_immediately(bad: Cluster, clock: Any) -> None:
    _paused(bad)
    bad.apply(
        {**deployment("backend", "shop:3", 6), "spec": {**deployment("backend", "shop:3", 6)["spec"], "paused": True}}
    )
    bad.step()
    ended = await rollback(bad, immediate(when_paused="resume"), clock).run()
    assert ended.outcome == "failed"
    assert "is paused, with a template that was never rolled out (shop:3)" in ended.reason


STOP = [{"namespace": "shop", "deployment": "importer"}, {"namespace": "shop", "statefulset": "queue"}]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            lambda c: c.forbidden.add(("patch", "apps/statefulsets")),
            "the responder's account cannot patch StatefulSet queue in shop",
        ),
        (lambda c: c.drop(c.get("StatefulSet", "shop", "queue")), "StatefulSet shop/queue does not exist"),
    ],
)
async def test_unsuspendable_owners_are_reported_before_the_first_change(
    change: ClusterChange, why: str, bad: Cluster, clock: Any
) -> None:
    bad.apply(deployment("importer", "importer:9", 1))
    bad.apply(statefulset("queue", "queue:9", 1))
    change(bad)
    ended = await rollback(bad, {**immediate(), "stop": STOP}, clock).run()
    assert ended.outcome == "failed"
    assert f"no plan could be made: {why}" in ended.reason


async def test_missing_permission_to_suspend_is_reported_before_the_first_change(bad: Cluster, clock: Any) -> None:
    bad.apply(RELEASE)
    edit(bad, metadata={"labels": {"helm.toolkit.fluxcd.io/name": "web"}})
    bad.forbidden.add(("patch", "helm.toolkit.fluxcd.io/helmreleases"))
    ended = await rollback(bad, immediate(gitops="suspend"), clock).run()
    assert "no plan could be made: the responder's account cannot patch HelmRelease web in shop" in ended.reason


async def test_a_terminating_pod_can_have_any_image(cluster: Cluster, clock: Any) -> None:
    colors(cluster)
    leaving = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "leaving",
            "namespace": "shop",
            "labels": {"app": "backend", "color": "blue"},
            "deletionTimestamp": "2026-11-24T00:00:00Z",
            "ownerReferences": [{"kind": "ReplicaSet", "name": "gone", "uid": "gone", "controller": True}],
        },
        "spec": {"containers": [{"name": "app", "image": "shop:3"}]},
        "status": {"phase": "Running"},
        "born": 0.0,
    }
    cluster.put(leaving)
    good = f"sha256:{'a' * 64}"
    cluster.images["shop:1"] = Image(digest=good)
    check = PodsCheck.model_validate(
        {
            "pods": {
                "namespace": "shop",
                "labels": {"app": "backend", "color": "blue"},
                "at_least": 0,
                "container": "app",
                "digest": good,
            }
        }
    )
    cluster.step()
    assert (await check.holds(client_of(cluster))).holds

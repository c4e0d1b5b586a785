"""A rollback changes nothing but the version, and a revert leaves nothing behind: whole objects are compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from responder.backends.kubernetes.client import Kubernetes
from responder.backends.kubernetes.pods_check import PodsCheck
from responder.rollback.plan import Gate, Plan
from responder.testing.comparison import expect_unchanged
from tests.apiserver import Cluster, Image
from tests.apiserver.client import InProcess
from tests.apiserver.manifests import autoscaler, deployment, service, statefulset, workload
from tests.responder.backends.kubernetes.whole_objects import BOOKKEEPING, NOTES, state
from tests.responder.harness import Rollback

Build = Callable[[Cluster], Any]


def put_out(make: Callable[..., Any], name: str = "backend", **more: Any) -> Build:
    """Versions 1 and 2 of a workload, with annotations of others."""

    def build(cluster: Cluster) -> None:
        for version in "12":
            manifest = make(name, f"shop:{version}", **more)
            manifest["metadata"]["labels"] = {"team": "shop"}
            cause = {"kubernetes.io/change-cause": f"release {version}"}
            manifest["metadata"]["annotations"] = {"theirs/note": "keep", **cause}
            cluster.apply(manifest)

    return build


def daemonset(name: str, image: str, **more: Any) -> dict[str, Any]:
    return workload("DaemonSet", name, image, **more)


def without_annotations(cluster: Cluster) -> None:
    for version in "12":
        cluster.apply(deployment("backend", f"shop:{version}"))


def colors(cluster: Cluster) -> None:
    for color, replicas in (("blue", 1), ("green", 3)):
        put_out(deployment, f"shop-{color}", replicas=replicas, labels={"app": "backend", "color": color})(cluster)
    cluster.apply(service("shop", {"app": "backend", "color": "green"}))


def autoscaled(cluster: Cluster) -> None:
    colors(cluster)
    for color in ("blue", "green"):
        cluster.apply(autoscaler(f"shop-{color}", 9))


def paused(cluster: Cluster) -> None:
    put_out(deployment)(cluster)
    edit(cluster, cluster.get("Deployment", "shop", "backend"), spec={"paused": True})


def with_importer(cluster: Cluster) -> None:
    put_out(deployment)(cluster)
    cluster.apply(deployment("importer", "importer:9", 1))


def edit(cluster: Cluster, found: dict[str, Any], **parts: dict[str, Any]) -> None:
    after = {**found, **{part: {**found.get(part, {}), **changes} for part, changes in parts.items()}}
    cluster.put({**after, "metadata": dict(after["metadata"])}, before=found)
    cluster.step()


def tracked(kind: str, spec: dict[str, Any], **meta: dict[str, str]) -> Build:
    """A Deployment that Argo CD or Flux writes."""

    def build(cluster: Cluster) -> None:
        put_out(deployment)(cluster)
        found = cluster.get("Deployment", "shop", "backend")
        merged = {key: {**found["metadata"].get(key, {}), **value} for key, value in meta.items()}
        edit(cluster, found, metadata=merged)
        if kind:
            home = "argocd" if kind == "Application" else "shop"
            version = "argoproj.io/v1alpha1" if kind == "Application" else "helm.toolkit.fluxcd.io/v2"
            cluster.apply({
                "apiVersion": version, "kind": kind, "metadata": {"name": "web", "namespace": home}, "spec": spec,
            })  # fmt: skip

    return build


def way(strategy: str, where: str = "deployment", **more: Any) -> dict[str, Any]:
    return {"strategy": strategy, "kubernetes": {"namespace": "shop", where: "backend", **more}}


ARGO = {"annotations": {"argocd.argoproj.io/tracking-id": "web:apps/Deployment:shop/backend"}}
HELM = {"labels": {"helm.toolkit.fluxcd.io/name": "web"}}
FLUX = {"labels": {"kustomize.toolkit.fluxcd.io/name": "apps"}}
ENABLED = {"annotations": {"kustomize.toolkit.fluxcd.io/reconcile": "enabled"}}
SUSPEND = way("rolling", gitops="suspend")
TIGHT = {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}}
BLUE_GREEN = {
    "strategy": "blue_green",
    "pointer": {"namespace": "shop", "service": "shop"},
    "colors": {c: {"kubernetes": {"namespace": "shop", "deployment": f"shop-{c}"}} for c in ("blue", "green")},
    "keep_pods": 0,
}
CASES: dict[str, tuple[dict[str, Any], Build]] = {
    "rolling deployment": (way("rolling"), put_out(deployment)),
    "rolling with other settings": (
        {**way("rolling"), "batch_delay": "30s"},
        put_out(deployment, minReadySeconds=7, progressDeadlineSeconds=20, revisionHistoryLimit=4, **TIGHT),
    ),
    "no annotations": (way("rolling"), without_annotations),
    "immediate deployment": (way("immediate"), put_out(deployment)),
    "recreate": (way("immediate"), put_out(deployment, strategy={"type": "Recreate"})),
    "paused": (way("immediate", when_paused="resume"), paused),
    "stopped importer": (
        {**way("immediate"), "stop": [{"namespace": "shop", "deployment": "importer"}]},
        with_importer,
    ),
    "rolling statefulset": (way("rolling", "statefulset"), put_out(statefulset)),
    "immediate statefulset": (way("immediate", "statefulset"), put_out(statefulset)),
    "parallel statefulset": (
        way("rolling", "statefulset"),
        put_out(statefulset, podManagementPolicy="Parallel", minReadySeconds=3),
    ),
    "rolling daemonset": (way("rolling", "daemonset"), put_out(daemonset)),
    "daemonset on delete": (
        way("immediate", "daemonset"),
        put_out(daemonset, updateStrategy={"type": "OnDelete"}),
    ),
    "argo": (SUSPEND, tracked("Application", {"syncPolicy": {"automated": {"selfHeal": True}}}, **ARGO)),
    "argo, explicitly": (SUSPEND, tracked("Application", {"syncPolicy": {"automated": {"enabled": True}}}, **ARGO)),
    "helm release": (SUSPEND, tracked("HelmRelease", {"interval": "5m"}, **HELM)),
    "helm release, explicitly": (SUSPEND, tracked("HelmRelease", {"suspend": False}, **HELM)),
    "flux": (SUSPEND, tracked("", {}, **FLUX)),
    "flux, explicitly": (SUSPEND, tracked("", {}, **FLUX, **ENABLED)),
    "blue_green": (BLUE_GREEN, colors),
    "blue_green to none": ({**BLUE_GREEN, "failed_replicas": 0}, colors),
    "blue_green, autoscaled": (BLUE_GREEN, autoscaled),
    "blue_green, kept pod": ({**BLUE_GREEN, "keep_pods": 1}, colors),
}
SWITCHED = {
    "*Service shop/spec/selector/color": "the plan switches it",
    "*Deployment shop-*/spec/replicas": "the plan scales the colors",
    "*HorizontalPodAutoscaler shop-blue/spec/minReplicas": "the plan raises it, and notes it",
}
MENTIONED: dict[str, dict[str, Any]] = {
    "paused": {"*Deployment backend/spec/paused": "the plan resumes it"},
    "stopped importer": {"*Deployment importer/spec/replicas": "the plan stops it"},
    "argo": {"*Application web/spec/syncPolicy/automated/enabled": "the plan suspends it"},
    "argo, explicitly": {"*Application web/spec/syncPolicy/automated/enabled": "the plan suspends it"},
    "helm release": {"*HelmRelease web/spec/suspend": "the plan suspends it"},
    "helm release, explicitly": {"*HelmRelease web/spec/suspend": "the plan suspends it"},
    "flux": {"*/annotations/kustomize.toolkit.fluxcd.io~1reconcile": "the plan suspends it"},
    "flux, explicitly": {"*/annotations/kustomize.toolkit.fluxcd.io~1reconcile": "the plan suspends it"},
    **{case: SWITCHED for case in CASES if case.startswith("blue_green")},
}
"""What the plan of a case changes besides the version."""
LEFT: dict[str, dict[str, Any]] = {
    "blue_green, autoscaled": {"*Deployment shop-blue/spec/replicas": "the autoscaler lowers it without load"},
    "blue_green, kept pod": {"*Deployment shop-green/*/rollback-responder.io~1kept": "the pod is kept for study"},
}
"""What remains after a revert."""


class Stage:
    """A cluster with a case, and bystanders that have similar labels."""

    def __init__(self, case: str) -> None:
        rollback, build = CASES[case]
        self.time = 0.0
        self.cluster = Cluster(clock=lambda: self.time)
        self.cluster.apply(deployment("bystander", "other:1", 1, labels={"app": "backend", "color": "red"}))
        self.cluster.apply(service("bystander", {"color": "red"}))
        build(self.cluster)
        checks = [{"pods": {"namespace": "shop", "labels": {"app": "backend"}}}]
        clients = {Kubernetes: InProcess(self.cluster)}
        self.harness = Rollback(rollback, clients, health_checks=checks, wait=self.wait)

    def wait(self, seconds: float) -> None:
        self.time += max(seconds, 0.1)


def failing_at_the_end(plan: Plan) -> Plan:
    never = PodsCheck.model_validate({"pods": {"namespace": "shop", "labels": {"no": "pod"}}})
    gate = Gate(name="never", checks=(never,), hold_for=0.0, within=5.0)
    return plan.model_copy(update={"steps": (*plan.steps[:-1], gate, plan.steps[-1])})


@pytest.mark.parametrize("case", CASES)
async def test_planning_changes_nothing(case: str) -> None:
    stage = Stage(case)
    before = state(stage.cluster)
    await stage.harness.plan()
    expect_unchanged(before, state(stage.cluster), "after planning")


@pytest.mark.parametrize("case", CASES)
async def test_a_rollback_changes_only_the_version(case: str) -> None:
    stage = Stage(case)
    expected = state(stage.cluster)
    ended = await stage.harness.run()
    assert ended.outcome == "succeeded", ended.reason
    for name in ("Deployment backend", "StatefulSet backend", "DaemonSet backend", "Deployment shop-blue"):
        if name in expected:
            expected[name]["spec"]["template"]["spec"]["containers"][0]["image"] = "shop:1"
    may_differ = {**BOOKKEEPING, **NOTES, **MENTIONED.get(case, {})}
    expect_unchanged(expected, state(stage.cluster), "after a rollback", may_differ)


@pytest.mark.parametrize("case", CASES)
async def test_a_revert_at_the_end_leaves_nothing_behind(case: str) -> None:
    stage = Stage(case)
    before = state(stage.cluster)
    ended = await stage.harness.run(through=failing_at_the_end)
    assert ended.outcome == "reverted", ended.reason
    expect_unchanged(before, state(stage.cluster), "after a revert", {**BOOKKEEPING, **LEFT.get(case, {})})


@pytest.mark.parametrize("case", [case for case in CASES if "daemonset" not in case and "statefulset" not in case])
async def test_a_revert_of_a_version_that_fails_leaves_nothing_behind(case: str) -> None:
    stage = Stage(case)
    stage.cluster.images["shop:1"] = Image(starts="crashes")
    before = state(stage.cluster)
    ended = await stage.harness.run()
    assert ended.outcome == "reverted", ended.reason
    expect_unchanged(before, state(stage.cluster), "after a revert", {**BOOKKEEPING, **LEFT.get(case, {})})

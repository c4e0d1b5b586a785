"""What surrounds a workload: a plan names it, and the rollback does not make it worse."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from responder.backends.kubernetes.client import Kubernetes
from responder.backends.kubernetes.objects import trouble_of
from responder.backends.kubernetes.surroundings.applied import notes_on_apply
from responder.backends.kubernetes.surroundings.nodes import node_of
from responder.rollback.ports import StopRequest
from tests.apiserver import Cluster, Image
from tests.apiserver.client import client_of
from tests.apiserver.controllers import loop
from tests.apiserver.controllers.objects import put
from tests.apiserver.manifests import autoscaler, deployment, service, statefulset, workload
from tests.apiserver.real.cluster import RealCluster, only_in_the_stand_in
from tests.responder.harness import Rollback

BACKEND = {"namespace": "shop", "deployment": "backend"}
IMMEDIATE = {"strategy": "immediate", "kubernetes": BACKEND}
Object = dict[str, Any]


def rollback(cluster: Cluster, strategy: Object, clock: Any, *, app: str = "backend", at_least: int = 1) -> Rollback:
    healthy = [{"pods": {"namespace": "shop", "labels": {"app": app}, "at_least": at_least}}]
    return Rollback(strategy, {Kubernetes: client_of(cluster)}, wait=clock.wait, health_checks=healthy)


async def notes(cluster: Cluster, strategy: Object, clock: Any) -> str:
    return "\n".join((await rollback(cluster, strategy, clock).plan()).notes)


@pytest.fixture
def bad(cluster: Cluster) -> Cluster:
    for version in "12":
        cluster.apply(deployment("backend", f"shop:{version}", 3))
    return cluster


# --- other Services on the failed color ---


def colors(cluster: Cluster, *, blue: int = 0, green: int = 3) -> None:
    for color, version, replicas in (("blue", "1", blue), ("green", "2", green)):
        labels = {"app": "backend", "color": color}
        cluster.apply(deployment(f"backend-{color}", f"shop:{version}", replicas, labels=labels))
    cluster.apply(service("backend", {"app": "backend", "color": "green"}))


def blue_green(**more: Any) -> Object:
    colors_of = {c: {"kubernetes": {"namespace": "shop", "deployment": f"backend-{c}"}} for c in ("blue", "green")}
    pointer = {"namespace": "shop", "service": "backend"}
    return {"strategy": "blue_green", "pointer": pointer, "colors": colors_of, "ready_for": "1s", **more}


def endpoints(cluster: Cluster, name: str) -> int:
    cluster.step()
    slices = cluster.all("EndpointSlice")
    return sum(len(s["endpoints"]) for s in slices if s["metadata"]["labels"]["kubernetes.io/service-name"] == name)


@pytest.mark.parametrize("failed_replicas", [None, 0, 1])
async def test_another_service_on_the_failed_color_keeps_its_pods(
    failed_replicas: int | None, cluster: Cluster, clock: Any
) -> None:
    colors(cluster)
    cluster.apply(service("backend-internal", {"app": "backend", "color": "green"}))
    cluster.apply(service("everything", {"app": "backend"}))
    cluster.apply(service("other", {"app": "other"}))
    ended = await rollback(cluster, blue_green(failed_replicas=failed_replicas), clock).run()
    assert ended.outcome == "succeeded", ended.reason
    assert endpoints(cluster, "backend-internal") == 3
    assert ended.plan
    text = "\n".join(ended.plan.notes)
    assert "Service shop/backend-internal selects green and stays there: switch it yourself" in text
    assert "everything" not in text
    kept = "Deployment shop/backend-green stays at 3: Service shop/backend-internal would lose its pods"
    assert (kept in text) == (failed_replicas is not None)


# --- nodes that are not ready ---


def lose(cluster: Cluster, node: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node fails: its pods are not ready, and stay as they are."""
    if isinstance(cluster, RealCluster):
        only_in_the_stand_in("nodes that fail")
    kubelet = loop.sync_pod

    def unless_lost(cluster: Cluster, pod: Object) -> None:
        if pod["spec"].get("nodeName") != node:
            kubelet(cluster, pod)
        elif pod["status"].get("conditions") != (lost := [{"type": "Ready", "status": "False"}]):
            put(cluster, pod, status={**pod["status"], "conditions": lost}, readySince=None)

    monkeypatch.setattr(loop, "sync_pod", unless_lost)
    found = cluster.get("Node", "", node)
    cluster.put({**found, "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}, before=found)
    cluster.step()


@pytest.fixture
def agents(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """A DaemonSet on five nodes, of which one has failed."""
    for n in range(2, 6):
        cluster.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"node-{n}"}})
    for version in "12":
        cluster.apply(workload("DaemonSet", "agent", f"shop:{version}"))
    lose(cluster, "node-5", monkeypatch)
    return cluster


def images(cluster: Cluster, kind: str = "") -> list[str]:
    cluster.step()
    pods = sorted(cluster.all("Pod"), key=lambda pod: str(pod["spec"].get("nodeName") or pod["metadata"]["name"]))
    return [pod["spec"]["containers"][0]["image"] for pod in pods]


@pytest.mark.parametrize("strategy", ["immediate", "rolling"])
async def test_a_dead_node_does_not_make_a_daemonset_bad_again(strategy: str, agents: Cluster, clock: Any) -> None:
    where = {"namespace": "shop", "daemonset": "agent"}
    ended = await rollback(agents, {"strategy": strategy, "kubernetes": where}, clock, app="agent", at_least=4).run()
    assert ended.outcome == "succeeded", ended.reason
    assert images(agents)[:4] == ["shop:1"] * 4
    assert clock.now < 120
    assert ended.plan
    assert "DaemonSet shop/agent: pods on nodes that are not ready are left out: agent-" in ended.plan.notes[0]
    assert ended.plan.notes[0].endswith(" on node-5")


async def test_a_pod_that_fails_on_a_ready_node_still_reverts(agents: Cluster, clock: Any) -> None:
    agents.images["shop:1"] = Image(starts="never_ready")
    where = {"namespace": "shop", "daemonset": "agent", "within": "60s"}
    ended = await rollback(agents, {"strategy": "immediate", "kubernetes": where}, clock, app="agent").run()
    assert ended.outcome == "reverted", ended.reason


async def test_nodes_that_cannot_be_read_are_noted(agents: Cluster, clock: Any) -> None:
    agents.forbidden.add(("get", "nodes"))
    where = {"namespace": "shop", "daemonset": "agent"}
    text = await notes(agents, {"strategy": "immediate", "kubernetes": where}, clock)
    assert "whether the pods of DaemonSet shop/agent that are not ready are on failed nodes is unknown" in text


@pytest.mark.parametrize("policy", ["OrderedReady", "Parallel"])
async def test_a_statefulset_that_would_wait_for_a_dead_node_is_refused(
    policy: str, cluster: Cluster, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-2"}})
    for version in "12":
        cluster.apply(statefulset("web", f"shop:{version}", 3, podManagementPolicy=policy))
    pod = cluster.get("Pod", "shop", "web-0")
    cluster.put({**pod, "spec": {**pod["spec"], "nodeName": "node-2"}}, before=pod)
    lose(cluster, "node-2", monkeypatch)
    strategy = {"strategy": "immediate", "kubernetes": {"namespace": "shop", "statefulset": "web"}}
    ended = await rollback(cluster, strategy, clock, app="web", at_least=2).run()
    if policy == "Parallel":  # its controller reaches the lowest pod last
        assert ended.outcome == "succeeded", ended.reason
        assert ended.plan
        assert ended.plan.notes[0].endswith("pods on nodes that are not ready are left out: web-0 on node-2")
    else:
        assert ended.outcome == "failed"
        assert "its controller waits for pods on nodes that are not ready: web-0 on node-2" in ended.reason
        assert images(cluster) == ["shop:2"] * 3


def test_a_crashing_pod_that_is_being_deleted_is_no_trouble() -> None:
    crashing = {"name": "app", "image": "shop:2", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    pod: Object = {"metadata": {"name": "agent-x"}, "status": {"containerStatuses": [crashing]}}
    assert "it keeps crashing" in trouble_of(pod)
    pod["metadata"]["deletionTimestamp"] = "2026-11-24T00:00:00Z"
    assert trouble_of(pod) == ""


def test_a_pod_that_waits_for_its_node_belongs_to_it() -> None:
    terms = [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-5"]}]}]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    assert node_of({"spec": {"affinity": {"nodeAffinity": required}}}) == "node-5"
    assert node_of({"spec": {}}) == ""


# --- records of kubectl apply ---


def applied(version: str, **container: Any) -> Object:
    manifest = deployment("backend", f"shop:{version}", 3)
    manifest["spec"]["template"]["spec"]["containers"][0] |= container
    record = json.dumps(manifest)
    manifest["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": record}
    return manifest


async def test_what_the_next_apply_keeps_is_noted(cluster: Cluster, clock: Any) -> None:
    cluster.apply(applied("1", env=[{"name": "OLD_FLAG", "value": "1"}, {"name": "SAME", "value": "1"}]))
    found = cluster.get("Deployment", "shop", "backend")
    bad = applied("2", env=[{"name": "SAME", "value": "2"}])
    cluster.handle(
        "PUT",
        cluster.path("apps/deployments", "shop", "backend"),
        body=bad | {"metadata": {**found["metadata"], **bad["metadata"]}},
    )
    cluster.step()
    text = await notes(cluster, IMMEDIATE, clock)
    assert "last-applied-configuration describes the bad version" in text
    assert "keeps what the good version has and that record lacks: spec.containers[app].env[OLD_FLAG] (" in text


async def test_an_apply_that_keeps_nothing_is_not_noted(cluster: Cluster, clock: Any) -> None:
    cluster.apply(applied("1", args=["--old"]))
    cluster.apply(applied("2", args=["--new"], env=[{"name": "NEW", "value": "1"}]))
    assert await notes(cluster, IMMEDIATE, clock) == ""


@pytest.mark.parametrize("record", ["", "{", "[]", "{}", '{"spec": null}', '{"spec": {"template": 1}}'])
def test_an_unreadable_record_has_no_note(record: str) -> None:
    annotations = {"kubectl.kubernetes.io/last-applied-configuration": record}
    found = {"metadata": {"annotations": annotations}, "spec": {"template": {"spec": {}}}}
    assert notes_on_apply(found, "Deployment shop/backend", {"spec": {"containers": []}}) == ()


def test_a_server_side_apply_will_conflict() -> None:
    entry = {"manager": "kubectl", "operation": "Apply", "fieldsV1": {"f:spec": {"f:template": {}}}}
    forced = entry | {"manager": "kustomize-controller"}
    found = {"metadata": {"managedFields": [entry, forced]}, "spec": {"template": {}}}
    (note,) = notes_on_apply(found, "Deployment shop/backend", {})
    assert "the next server-side apply by kubectl conflicts" in note


# --- temporary settings ---


ROLLING = {"strategy": "rolling", "kubernetes": BACKEND, "batch_size": 2, "batch_delay": "30s"}
SETTINGS = (
    "temporary settings that may still be in place: rollout settings of Deployment shop/backend: "
    "maxSurge 2, maxUnavailable 0, minReadySeconds 30 (before: maxUnavailable 25%, maxSurge 25%)"
)


async def test_drift_in_the_middle_names_the_temporary_settings(bad: Cluster, clock: Any) -> None:
    harness = rollback(bad, ROLLING, clock)

    def wait(seconds: float) -> None:
        clock.wait(seconds)
        if clock.now > 5.0 and "shop:3" not in images(bad):
            bad.apply(deployment("backend", "shop:3", 3))

    harness.stop_signal._wait = wait
    ended = await harness.run()
    assert ended.state == "stuck"
    assert ended.reason.endswith(SETTINGS)


async def test_drift_between_batches_names_the_partition(cluster: Cluster, clock: Any) -> None:
    for version in "12":
        cluster.apply(statefulset("web", f"shop:{version}", 5))
    where = {"namespace": "shop", "statefulset": "web"}
    strategy = {"strategy": "rolling", "kubernetes": where, "batch_size": 2}
    harness = rollback(cluster, strategy, clock, app="web")

    def wait(seconds: float) -> None:
        clock.wait(seconds)
        cluster.step()
        if images(cluster).count("shop:1") >= 2 and "shop:3" not in images(cluster):
            cluster.apply(statefulset("web", "shop:3", 5))

    harness.stop_signal._wait = wait
    ended = await harness.run()
    assert ended.state == "stuck"
    text = "temporary settings that may still be in place: partition of StatefulSet shop/web: 5 (before: 0)"
    assert ended.reason.endswith(text)


async def test_a_stop_that_holds_names_the_temporary_settings(bad: Cluster, clock: Any) -> None:
    harness = rollback(bad, ROLLING, clock)
    accepted = harness.execution.accepted.model_copy(update={"on_stop": "hold"})
    harness.execution = harness.execution.model_copy(update={"accepted": accepted})

    async def requested(execution: Any, *, about_to_act: bool) -> StopRequest | None:
        return StopRequest("somebody", "to see") if execution.taken else None

    harness.stop_signal.requested = requested  # type: ignore[method-assign]
    ended = await harness.run()
    assert ended.state == "stuck"
    assert ended.reason == f"stopped by somebody: to see; {SETTINGS}"


async def test_a_failed_verification_names_no_settings(bad: Cluster, clock: Any) -> None:
    ended = await rollback(bad, ROLLING, clock, at_least=99).run()
    assert ended.state == "stuck"
    assert "temporary settings" not in ended.reason
    assert ended.temporary == []


@pytest.mark.parametrize("deadline", [20, 30])
async def test_a_batch_delay_at_or_above_the_progress_deadline_raises_it_meanwhile(
    deadline: int, cluster: Cluster, clock: Any
) -> None:
    for version in "12":
        cluster.apply(deployment("backend", f"shop:{version}", 3, progressDeadlineSeconds=deadline))
    ended = await rollback(cluster, ROLLING, clock).run()
    assert ended.outcome == "succeeded", ended.reason
    assert cluster.get("Deployment", "shop", "backend")["spec"]["progressDeadlineSeconds"] == deadline


# --- replicas and autoscalers ---


def scaled_object(name: str, kind: str = "", **annotations: str) -> Object:
    target = {"name": name, **({"kind": kind} if kind else {})}
    meta = {"name": f"{name}-scaler", "namespace": "shop", "annotations": annotations}
    spec = {"scaleTargetRef": target, "triggers": []}
    return {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": meta, "spec": spec}


async def test_a_workload_scaled_to_nothing_is_noted(cluster: Cluster, clock: Any) -> None:
    for version in "12":
        cluster.apply(deployment("backend", f"shop:{version}", 0))
    assert await notes(cluster, IMMEDIATE, clock) == (
        "Deployment shop/backend has no pods, because it is scaled to 0: the good version is not started"
    )
    cluster.put(scaled_object("backend"))
    assert (await notes(cluster, IMMEDIATE, clock)).endswith("(ScaledObject shop/backend-scaler can scale it up)")


async def test_a_daemonset_without_nodes_is_noted(cluster: Cluster, clock: Any) -> None:
    cluster.drop(cluster.get("Node", "", "node-1"))
    for version in "12":
        cluster.apply(workload("DaemonSet", "agent", f"shop:{version}"))
    text = await notes(
        cluster, {"strategy": "immediate", "kubernetes": {"namespace": "shop", "daemonset": "agent"}}, clock
    )
    assert "DaemonSet shop/agent has no pods, because no node is selected for it" in text


async def test_autoscalers_are_noted(bad: Cluster, clock: Any) -> None:
    bad.apply(autoscaler("backend", 9))
    text = await notes(bad, IMMEDIATE, clock)
    assert text == (
        "HorizontalPodAutoscaler shop/backend scales Deployment shop/backend: the rollback does not change the replicas"
    )
    bad.put(scaled_object("backend"))
    bad.put(scaled_object("backend", kind="StatefulSet") | {"metadata": {"name": "another", "namespace": "shop"}})
    text = await notes(bad, IMMEDIATE, clock)
    assert "ScaledObject shop/backend-scaler scales Deployment shop/backend" in text
    assert "another" not in text
    bad.forbidden.add(("list", "keda.sh/scaledobjects"))
    assert "whether a ScaledObject scales Deployment shop/backend is unknown" in await notes(bad, IMMEDIATE, clock)


async def test_a_workload_that_keda_scales_up_again_cannot_be_stopped(bad: Cluster, clock: Any) -> None:
    bad.apply(deployment("importer", "importer:9", 1))
    bad.put(scaled_object("importer"))
    strategy = {**IMMEDIATE, "stop": [{"namespace": "shop", "deployment": "importer"}]}
    ended = await rollback(bad, strategy, clock).run()
    assert ended.outcome == "failed"
    assert (
        "Deployment shop/importer cannot be stopped, because KEDA (ScaledObject shop/importer-scaler)" in ended.reason
    )
    bad.put(scaled_object("importer", **{"autoscaling.keda.sh/paused-replicas": "0"}))
    ended = await rollback(bad, strategy, clock).run()
    assert ended.outcome == "succeeded", ended.reason


async def test_keda_on_either_color_is_noted(cluster: Cluster, clock: Any) -> None:
    colors(cluster)
    for color in ("blue", "green"):
        cluster.put(scaled_object(f"backend-{color}"))
    ended = await rollback(cluster, blue_green(failed_replicas=0), clock).run()
    assert ended.outcome == "succeeded", ended.reason
    assert ended.plan
    text = "\n".join(ended.plan.notes)
    assert "KEDA (ScaledObject shop/backend-blue-scaler) may remove pods of Deployment shop/backend-blue" in text
    assert "backend-green stays at 3: KEDA (ScaledObject shop/backend-green-scaler) scales it" in text
    assert cluster.get("Deployment", "shop", "backend-green")["spec"]["replicas"] == 3


async def test_an_idle_color_that_keda_holds_at_nothing_is_refused(cluster: Cluster, clock: Any) -> None:
    colors(cluster)
    cluster.put(scaled_object("backend-blue", **{"autoscaling.keda.sh/paused-replicas": "0"}))
    ended = await rollback(cluster, blue_green(), clock).run()
    assert ended.outcome == "failed"
    assert "keeps Deployment shop/backend-blue at 0, and 3 are needed" in ended.reason


async def test_a_live_color_scaled_to_nothing_is_noted(cluster: Cluster, clock: Any) -> None:
    colors(cluster, green=0)
    text = await notes(cluster, blue_green(), clock)
    assert "Deployment shop/backend-green is scaled to 0, so blue gets only 1" in text


# --- configuration that changed under one name ---


def configured(version: str, *, optional: bool = False) -> Object:
    manifest = deployment("backend", f"shop:{version}", 3)
    container = manifest["spec"]["template"]["spec"]["containers"][0]
    container["envFrom"] = [
        {kind: {"name": name, **({"optional": True} if optional else {})}}
        for kind, name in (("configMapRef", "settings"), ("secretRef", "keys"))
    ]
    return manifest


def configuration(kind: str, value: str) -> Object:
    name = "settings" if kind == "ConfigMap" else "keys"
    meta = {"name": name, "namespace": "shop"}
    data = value if kind == "ConfigMap" else base64.b64encode(value.encode()).decode()
    return {"apiVersion": "v1", "kind": kind, "metadata": meta, "data": {"flag": data}}


@pytest.mark.parametrize("optional", [False, True])
@pytest.mark.parametrize("kind", ["ConfigMap", "Secret"])
async def test_configuration_that_changed_is_noted(kind: str, optional: bool, cluster: Cluster, clock: Any) -> None:
    for each in ("ConfigMap", "Secret"):
        cluster.apply(configuration(each, "1"))
    cluster.apply(configured("1", optional=optional))
    clock.wait(60.0)
    cluster.apply(configuration(kind, "2"))
    cluster.apply(configured("2", optional=optional))
    text = await notes(cluster, IMMEDIATE, clock)
    name = "ConfigMap settings" if kind == "ConfigMap" else "Secret keys"
    assert "the good version of Deployment shop/backend starts with configuration that changed since" in text
    assert f"created at 2026-11-24T00:00:00Z: {name} (at 2026-11-24T00:01:00" in text
    assert text.endswith(" by tests)")


async def test_configuration_of_the_same_deployment_is_not_noted(cluster: Cluster, clock: Any) -> None:
    for version in "12":
        for kind in ("ConfigMap", "Secret"):
            cluster.apply(configuration(kind, "1"))
        cluster.apply(configured(version))
        clock.wait(60.0)
    assert await notes(cluster, IMMEDIATE, clock) == ""

"""Every Kubernetes resource keeps the laws, and a pod template is identified by its revision."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from responder.backends.kubernetes.client import Kubernetes
from responder.backends.kubernetes.gitops import Reconciliation
from responder.backends.kubernetes.pod_template import PodTemplate
from responder.backends.kubernetes.rollout import Partition, RolloutPaused, RolloutSettings
from responder.backends.kubernetes.scale import AutoscalerFloor, KeptPods, Replicas
from responder.backends.kubernetes.traffic import ServiceSelector
from responder.errors import StepFailed, Unavailable
from responder.rollback.gateway import Gateway
from tests.apiserver import Cluster, Image
from tests.apiserver.client import InProcess
from tests.apiserver.manifests import autoscaler, deployment, service, statefulset, workload
from tests.responder.backends.kubernetes.whole_objects import BOOKKEEPING, NOTES, state
from tests.responder.backends.resource_law import keeps_the_laws
from tests.responder.harness import FixedConnections

FLUX = "annotations/kustomize.toolkit.fluxcd.io~1reconcile"
BACKEND = {"namespace": "shop", "deployment": "backend"}


@pytest.fixture
def cluster(cluster: Any) -> Any:
    """A cluster without controller lag: one verb at a time, on a stopped clock."""
    cluster.lags = False
    return cluster


def put_out(cluster: Cluster, kind: str, name: str, versions: str, **more: Any) -> None:
    for version in versions:
        cluster.apply(workload(kind, name, f"shop:{version}", **more))


@pytest.mark.parametrize(
    ("kind", "key"), [("Deployment", "deployment"), ("StatefulSet", "statefulset"), ("DaemonSet", "daemonset")]
)
async def test_the_laws_of_the_pod_template(kind: str, key: str, cluster: Cluster, kube: InProcess) -> None:
    put_out(cluster, kind, "backend", "132")
    resource = PodTemplate(**{"namespace": "shop", key: "backend"})
    before = await resource.read(kube)
    to, stranger = [await resource.value_of(kube, version, "") for version in "13"]
    version = [f"/{kind} backend/spec/template", *NOTES]
    await keeps_the_laws(resource, kube, expected=before, to=to, stranger=stranger, **law(cluster, *version))
    assert resource.describe(before).endswith("(shop:2)")


@pytest.mark.parametrize(
    ("resource", "version", "expected", "to", "stranger"),
    [
        (Replicas(**BACKEND), "*/spec/replicas", 4, 2, 7),
        (AutoscalerFloor(namespace="shop", autoscaler="backend"), "*/spec/minReplicas", 1, 4, 7),
        (ServiceSelector(namespace="shop", service="backend"), "*/spec/selector/color", "green", "blue", "green2"),
        (RolloutPaused(**BACKEND), "*/spec/paused", False, True, None),
        (Partition(namespace="shop", statefulset="web"), "*/spec/updateStrategy/rollingUpdate/partition", 0, 3, 2),
        (Reconciliation(kind="Application", namespace="argocd", name="shop"), "*/enabled", "on", "off", None),
        (Reconciliation(kind="HelmRelease", namespace="shop", name="shop"), "*/spec/suspend", "on", "off", None),
        (Reconciliation(kind="Deployment", namespace="shop", name="backend"), f"*/{FLUX}", "on", "off", None),
    ],
    ids=str,
)
async def test_the_laws(
    resource: Any, version: str, expected: Any, to: Any, stranger: Any, cluster: Cluster, kube: InProcess
) -> None:
    for color in ("green", "blue", "green2"):
        cluster.apply(deployment(f"in-{color}", "x:1", 1, labels={"app": "b", "color": color}))
    cluster.apply(deployment("backend", "shop:1"))
    cluster.apply(autoscaler("backend", 9))
    cluster.apply(statefulset("web", "shop:1", 3))
    cluster.apply(service("backend", {"app": "b", "color": "green"}))
    cluster.apply(application())
    cluster.apply(helm_release())
    await keeps_the_laws(resource, kube, expected=expected, to=to, stranger=stranger, **law(cluster, version, *NOTES))


def law(cluster: Cluster, *version: str) -> dict[str, Any]:
    return {"state": lambda: state(cluster), "version": version, "may_differ": BOOKKEEPING}


def application(**automated: Any) -> dict[str, Any]:
    meta = {"name": "shop", "namespace": "argocd"}
    spec = {"syncPolicy": {"automated": {"selfHeal": True, **automated}}}
    return {"apiVersion": "argoproj.io/v1alpha1", "kind": "Application", "metadata": meta, "spec": spec}


def helm_release() -> dict[str, Any]:
    meta = {"name": "shop", "namespace": "shop"}
    return {
        "apiVersion": "helm.toolkit.fluxcd.io/v2",
        "kind": "HelmRelease",
        "metadata": meta,
        "spec": {"interval": "5m"},
    }


async def test_the_laws_of_rollout_settings(cluster: Cluster, kube: InProcess) -> None:
    cluster.apply(deployment("backend", "shop:1"))
    resource = RolloutSettings(**BACKEND)

    def settings(surge: int) -> dict[str, Any]:
        rolling = {"maxSurge": surge, "maxUnavailable": 0}
        return {"strategy": {"type": "RollingUpdate", "rollingUpdate": rolling}, "minReadySeconds": 5}

    before = await resource.read(kube)
    more = law(cluster, "*/spec/strategy", "*/spec/minReadySeconds", *NOTES)
    await keeps_the_laws(resource, kube, expected=before, to=settings(1), stranger=settings(2), **more)


async def test_changes_are_annotated(cluster: Cluster, kube: InProcess, clock: Any) -> None:
    put_out(cluster, "Deployment", "backend", "12")
    clock.wait(2.0)  # an API server keeps the time of a write in whole seconds
    resource = PodTemplate(**BACKEND, mark="01J9")
    before, to = await resource.read(kube), await resource.value_of(kube, "1", "")
    await resource.write(kube, to, expected=before)
    annotations = cluster.get("Deployment", "shop", "backend")["metadata"]["annotations"]
    text = annotations["rollback-responder.io/rolled-back"]
    assert text.startswith("rollback 01J9: backend-")
    assert "(shop:2) → " in text
    assert annotations["kubernetes.io/change-cause"] == text
    assert await resource.last_modified_by(kube) == "rollback-responder"


async def test_annotations_of_others_are_kept(cluster: Cluster, kube: InProcess) -> None:
    put_out(cluster, "Deployment", "backend", "12")
    found = cluster.get("Deployment", "shop", "backend")
    found["metadata"]["annotations"]["theirs/a"] = "1"
    resource = PodTemplate(**BACKEND)
    await resource.write(kube, await resource.value_of(kube, "1", ""), expected=await resource.read(kube))
    assert cluster.get("Deployment", "shop", "backend")["metadata"]["annotations"]["theirs/a"] == "1"


DIGEST = f"sha256:{'d' * 64}"


@pytest.mark.parametrize(
    ("image", "labels", "version", "artifact"),
    [
        ("shop:1", {}, "1", ""),
        ("registry:5000/shop:1", {}, "1", ""),
        (f"shop@{DIGEST}", {}, "whatever", f"shop@{DIGEST}"),
        (f"shop@{DIGEST}", {}, "whatever", DIGEST),
        (f"shop:1@{DIGEST}", {}, "1", ""),
        ("shop:abc", {"app.kubernetes.io/version": "1"}, "1", ""),
        ("shop:abc", {}, "1", "shop:abc"),
    ],
)
async def test_a_version_is_found_by_artifact_label_or_tag(
    image: str, labels: dict[str, str], version: str, artifact: str, cluster: Cluster, kube: InProcess
) -> None:
    manifest = deployment("backend", image)
    manifest["spec"]["template"]["metadata"]["labels"] = {"app": "backend", **labels}
    cluster.apply(manifest)
    manifest = deployment("backend", "shop:2")
    manifest["spec"]["template"]["metadata"]["labels"] = {"app": "backend", **dict.fromkeys(labels, "2")}
    cluster.apply(manifest)
    resource = PodTemplate(**BACKEND)
    found = await resource.value_of(kube, version, artifact)
    assert isinstance(found, dict)
    assert found["images"] == {"app": image}
    assert await resource.runs(kube, await resource.read(kube), "2", "")


async def test_a_version_without_a_revision_fails(cluster: Cluster, kube: InProcess) -> None:
    put_out(cluster, "Deployment", "backend", "12", revisionHistoryLimit=0)
    with pytest.raises(StepFailed, match=r"keeps no revision that is 1; it keeps shop:2 \(revisionHistoryLimit: 0\)"):
        await PodTemplate(**BACKEND).value_of(kube, "1", "")


async def test_a_revision_can_be_named(cluster: Cluster, kube: InProcess) -> None:
    put_out(cluster, "Deployment", "backend", "12")
    name = next(rs["metadata"]["name"] for rs in cluster.all("ReplicaSet") if "shop:1" in str(rs))
    found = await PodTemplate(**BACKEND).value_of(kube, "a name of our own", f"ReplicaSet/{name}")
    assert isinstance(found, dict)
    assert found["revision"] == name


async def test_the_newest_revision_of_a_version_is_used(cluster: Cluster, kube: InProcess) -> None:
    for version, cpu in (("1", "100m"), ("1", "200m"), ("2", "200m")):
        manifest = deployment("backend", f"shop:{version}")
        manifest["spec"]["template"]["spec"]["containers"][0]["resources"] = {"requests": {"cpu": cpu}}
        cluster.apply(manifest)
    found = await PodTemplate(**BACKEND).value_of(kube, "1", "")
    assert isinstance(found, dict)
    kept = cluster.get("ReplicaSet", "shop", str(found["revision"]))
    assert kept["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"] == "200m"


async def test_a_moved_tag_is_detected_at_the_pods(cluster: Cluster, kube: InProcess) -> None:
    put_out(cluster, "Deployment", "backend", "12")
    resource = PodTemplate(**BACKEND)
    value = await resource.value_of(kube, "1", f"shop@{DIGEST}")
    await resource.write(kube, value, expected=await resource.read(kube))
    cluster.step()
    with pytest.raises(StepFailed, match="shop:1 now refers to another image"):
        await resource.converged(kube, value)
    cluster.images["shop:1"] = Image(digest=DIGEST)
    assert await resource.converged(kube, value)


@pytest.mark.parametrize(
    ("starts", "why"),
    [
        ("pull_fails", r"its image cannot be pulled \(ImagePullBackOff: Back-off pulling image \"shop:1\"\)"),
        ("crashes", r"it keeps crashing \(CrashLoopBackOff: .*; it exited with 1\)"),
    ],
)
async def test_permanent_pod_failures_are_reported_immediately(
    starts: str, why: str, cluster: Cluster, kube: InProcess
) -> None:
    put_out(cluster, "Deployment", "backend", "12")
    cluster.images["shop:1"] = Image(starts=starts)
    resource = PodTemplate(**BACKEND)
    value = await resource.value_of(kube, "1", "")
    await resource.write(kube, value, expected=await resource.read(kube))
    cluster.step()
    with pytest.raises(StepFailed, match=why):
        await resource.converged(kube, value)


async def test_the_progress_deadline_is_reported(cluster: Cluster, kube: InProcess, clock: Any) -> None:
    put_out(cluster, "Deployment", "backend", "12", progressDeadlineSeconds=10)
    cluster.images["shop:1"] = Image(starts="never_ready")
    resource = PodTemplate(**BACKEND)
    value = await resource.value_of(kube, "1", "")
    await resource.write(kube, value, expected=await resource.read(kube))
    assert not await resource.converged(kube, value)
    clock.wait(11)
    with pytest.raises(StepFailed, match="has timed out progressing"):
        await resource.converged(kube, value)


async def test_a_lagging_controller_has_not_converged(cluster: Cluster, kube: InProcess) -> None:
    put_out(cluster, "Deployment", "backend", "12")
    resource = PodTemplate(**BACKEND)
    value = await resource.value_of(kube, "1", "")
    cluster.controllers = False
    await resource.write(kube, value, expected=await resource.read(kube))
    assert not await resource.converged(kube, value)
    cluster.controllers = True
    assert await resource.converged(kube, value)


async def test_a_template_without_a_revision_yet_is_retried(cluster: Cluster, kube: InProcess) -> None:
    put_out(cluster, "Deployment", "backend", "12")
    cluster.controllers = False
    cluster.apply(deployment("backend", "shop:3"))
    with pytest.raises(Unavailable, match="has not seen yet"):
        await PodTemplate(**BACKEND).read(kube)


async def test_the_stuck_pod_of_an_ordered_statefulset_is_deleted(cluster: Cluster, kube: InProcess) -> None:
    cluster.images["shop:2"] = Image(starts="crashes")
    put_out(cluster, "StatefulSet", "web", "12", replicas=3)
    stray = {"name": "look-around", "namespace": "shop", "labels": {"app": "web"}}  # a foreign pod that is not ready
    spec = {"containers": [{"name": "app", "image": "shop:2"}]}
    cluster.put({"apiVersion": "v1", "kind": "Pod", "metadata": stray, "spec": spec, "status": {}, "born": 0.0})
    resource = PodTemplate(namespace="shop", statefulset="web")
    value = await resource.value_of(kube, "1", "")
    await resource.write(kube, value, expected=await resource.read(kube))
    for _ in range(5):
        assert not await resource.converged(kube, value)  # it would wait forever (kubernetes/kubernetes#67250)
    await resource.assist(kube, value)
    assert await resource.converged(kube, value)
    assert [v for v, r in cluster.requests if v == "delete"] == ["delete"]
    assert cluster.get("Pod", "shop", "look-around")


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet"])
async def test_on_delete_replaces_pod_by_pod(kind: str, cluster: Cluster, kube: InProcess) -> None:
    more = {"replicas": 3} if kind == "StatefulSet" else {}
    put_out(cluster, kind, "web", "12", updateStrategy={"type": "OnDelete"}, **more)
    resource = PodTemplate(**{"namespace": "shop", kind.lower(): "web"})
    value, rounds = await resource.value_of(kube, "2", ""), 0
    while not await resource.converged(kube, value):
        await resource.assist(kube, value)
        assert sum("Ready" in str(p["status"]) for p in cluster.all("Pod")) >= len(cluster.all("Pod")) - 1
        rounds += 1
        assert rounds < 9
    assert {p["spec"]["containers"][0]["image"] for p in cluster.all("Pod")} == {"shop:2"}


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet"])
async def test_no_pod_is_deleted_until_the_controller_has_observed_the_change(
    kind: str, cluster: Cluster, kube: InProcess
) -> None:
    """The controller would create it from the old template again."""
    put_out(cluster, kind, "web", "12", updateStrategy={"type": "OnDelete"})
    resource = PodTemplate(**{"namespace": "shop", kind.lower(): "web"})
    value = await resource.value_of(kube, "2", "")
    while not await resource.converged(kube, value):
        await resource.assist(kube, value)
    deleted = [verb for verb, _ in cluster.requests].count("delete")
    cluster.controllers = False
    good = await resource.value_of(kube, "1", "")
    await resource.write(kube, good, expected=value)
    await resource.assist(kube, good)
    assert [verb for verb, _ in cluster.requests].count("delete") == deleted
    cluster.controllers = True
    assert not await resource.converged(kube, good)
    await resource.assist(kube, good)
    assert [verb for verb, _ in cluster.requests].count("delete") == deleted + 1


async def test_the_stuck_pod_is_kept_until_the_controller_has_observed_the_change(
    cluster: Cluster, kube: InProcess
) -> None:
    cluster.images["shop:2"] = Image(starts="crashes")
    put_out(cluster, "StatefulSet", "web", "12", replicas=3)
    resource = PodTemplate(namespace="shop", statefulset="web")
    value = await resource.value_of(kube, "1", "")
    cluster.controllers = False
    await resource.write(kube, value, expected=await resource.read(kube))
    await resource.assist(kube, value)
    assert "delete" not in [verb for verb, _ in cluster.requests]


def make_unready(cluster: Cluster, *names: str) -> None:
    for name in names:
        for condition in cluster.get("Pod", "shop", name)["status"]["conditions"]:
            condition["status"] = "False"


async def deleted_by_assist(cluster: Cluster, kube: InProcess, resource: PodTemplate, value: Any) -> set[str]:
    """The names of the pods that it deletes while the controllers stand still."""
    cluster.controllers = False
    before = {pod["metadata"]["name"] for pod in cluster.all("Pod")}
    await resource.assist(kube, value)
    return before - {pod["metadata"]["name"] for pod in cluster.all("Pod")}


@pytest.mark.parametrize(
    ("unready", "deleted"),
    [
        ((), {"web-2"}),
        (("web-1",), {"web-1"}),
        (("web-1", "web-2"), {"web-1"}),
        (("web-0", "web-1", "web-2"), {"web-0"}),
    ],
)
async def test_on_delete_takes_an_old_pod_that_is_not_ready_first(
    unready: tuple[str, ...], deleted: set[str], cluster: Cluster, kube: InProcess
) -> None:
    put_out(cluster, "StatefulSet", "web", "12", updateStrategy={"type": "OnDelete"}, replicas=3)
    resource = PodTemplate(namespace="shop", statefulset="web")
    value = await resource.value_of(kube, "2", "")
    make_unready(cluster, *unready)
    assert await deleted_by_assist(cluster, kube, resource, value) == deleted


async def test_on_delete_waits_for_the_pod_that_was_replaced(cluster: Cluster, kube: InProcess) -> None:
    put_out(cluster, "StatefulSet", "web", "12", updateStrategy={"type": "OnDelete"}, replicas=3)
    resource = PodTemplate(namespace="shop", statefulset="web")
    value = await resource.value_of(kube, "2", "")
    await resource.assist(kube, value)
    assert not await resource.converged(kube, value)
    cluster.step()
    make_unready(cluster, "web-2")
    assert await deleted_by_assist(cluster, kube, resource, value) == set()


async def test_on_delete_keeps_pods_of_the_good_version(cluster: Cluster, kube: InProcess) -> None:
    put_out(cluster, "StatefulSet", "web", "1", updateStrategy={"type": "OnDelete"}, replicas=3)
    resource = PodTemplate(namespace="shop", statefulset="web")
    value = await resource.value_of(kube, "1", "")
    assert await deleted_by_assist(cluster, kube, resource, value) == set()
    make_unready(cluster, "web-0")
    assert await deleted_by_assist(cluster, kube, resource, value) == set()


async def test_no_pod_is_deleted_if_the_template_is_another(cluster: Cluster, kube: InProcess) -> None:
    put_out(cluster, "StatefulSet", "web", "123", updateStrategy={"type": "OnDelete"}, replicas=3)
    resource = PodTemplate(namespace="shop", statefulset="web")
    other = await resource.value_of(kube, "2", "")
    assert await deleted_by_assist(cluster, kube, resource, other) == set()


@pytest.mark.parametrize(
    ("kind", "more", "deleted"),
    [
        ("StatefulSet", {"replicas": 3}, {"web-0"}),
        ("StatefulSet", {"podManagementPolicy": "Parallel", "replicas": 3}, set()),
        ("DaemonSet", {}, set()),
        ("Deployment", {}, set()),
    ],
)
async def test_only_a_controller_that_would_wait_forever_is_assisted(
    kind: str, more: dict[str, Any], deleted: set[str], cluster: Cluster, kube: InProcess
) -> None:
    put_out(cluster, kind, "web", "12", **more)
    resource = PodTemplate(**{"namespace": "shop", kind.lower(): "web"})
    value = await resource.value_of(kube, "2", "")
    assert await resource.converged(kube, value)
    cluster.controllers = False
    for pod in cluster.all("Pod"):
        pod["metadata"]["labels"] |= {"controller-revision-hash": "old", "pod-template-hash": "old"}
        make_unready(cluster, pod["metadata"]["name"])
    assert await deleted_by_assist(cluster, kube, resource, value) == deleted


async def test_of_an_ordered_statefulset_no_ready_pod_is_deleted(cluster: Cluster, kube: InProcess) -> None:
    partition = {"type": "RollingUpdate", "rollingUpdate": {"partition": 3}}
    put_out(cluster, "StatefulSet", "web", "12", updateStrategy=partition, replicas=3)
    resource = PodTemplate(namespace="shop", statefulset="web")
    value = await resource.value_of(kube, "2", "")
    assert {pod["spec"]["containers"][0]["image"] for pod in cluster.all("Pod")} == {"shop:1"}
    assert await deleted_by_assist(cluster, kube, resource, value) == set()


async def test_the_laws_of_kept_pods(cluster: Cluster, kube: InProcess) -> None:
    """Nothing puts them back."""
    cluster.apply(deployment("backend", "shop:2", 3))
    more = {**law(cluster, "*/metadata/annotations/rollback-responder.io~1kept"), "one_way": True}
    resource = KeptPods(**BACKEND, count=1)
    await keeps_the_laws(resource, kube, expected=None, to="01J9", stranger=None, **more)


async def test_kept_pods_are_unchanged_and_replaced(cluster: Cluster, kube: InProcess) -> None:
    cluster.apply(deployment("backend", "shop:2", 3))
    before = {pod["metadata"]["name"] for pod in cluster.all("Pod")}
    resource = KeptPods(**BACKEND, count=2)
    gateway = Gateway(FixedConnections({Kubernetes: kube}), retry_every=0.01)  # controllers write as well
    await gateway.write(resource, "01J9", expected=None)
    cluster.step()
    await gateway.write(resource, "01J9", expected=None)
    assert await resource.read(kube) == "01J9"
    kept = [p for p in cluster.all("Pod") if p["metadata"]["labels"].get("rollback-responder.io/kept") == "01J9"]
    assert {p["metadata"]["name"] for p in kept} < before
    assert len(kept) == 2
    assert all(not p["metadata"].get("ownerReferences") for p in kept)
    assert len(cluster.all("Pod")) == 5
    assert kept[0]["metadata"]["labels"]["rollback-responder.io/was-app"] == "backend"


async def test_pods_of_each_service_are_kept(cluster: Cluster, kube: InProcess) -> None:
    for name in ("backend", "search"):
        cluster.apply(deployment(name, "shop:2", 2))
        await KeptPods(namespace="shop", deployment=name, count=1).write(kube, "one-rollback-of-both", expected=None)
    kept = [p for p in cluster.all("Pod") if "rollback-responder.io/kept" in p["metadata"]["labels"]]
    assert sorted(p["metadata"]["labels"]["rollback-responder.io/was-app"] for p in kept) == ["backend", "search"]


async def test_with_an_autoscaler_more_replicas_are_accepted() -> None:
    resource = Replicas(**BACKEND, autoscaled=True)
    assert resource.same(5, 4)
    assert not resource.same(3, 4)
    assert not Replicas(**BACKEND).same(5, 4)
    assert not resource.same(5, 0)
    assert resource.equivalent(3, 4)
    assert not resource.equivalent(0, 4)


@pytest.mark.parametrize("value", [-1, "many", None])
async def test_invalid_replicas_are_refused(value: Any, cluster: Cluster, kube: InProcess) -> None:
    cluster.apply(deployment("backend", "shop:2", 3))
    with pytest.raises(StepFailed, match="cannot be set to"):
        await Replicas(**BACKEND).write(kube, value, expected=3)


async def test_missing_objects_are_reported(kube: InProcess) -> None:
    for resource in (PodTemplate(**BACKEND), Replicas(**BACKEND), RolloutPaused(**BACKEND), RolloutSettings(**BACKEND)):
        assert await resource.read(kube) is None
    with pytest.raises(StepFailed, match="Deployment shop/backend does not exist"):
        await Replicas(**BACKEND).write(kube, 3, expected=1)
    with pytest.raises(StepFailed, match="Service shop/backend does not exist"):
        await ServiceSelector(namespace="shop", service="backend").write(kube, "blue", expected="green")


@pytest.mark.parametrize("fields", [{}, {"deployment": "a", "statefulset": "b"}, {"deployment": "Not A Name"}])
def test_exactly_one_workload_is_required(fields: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        PodTemplate(namespace="shop", **fields)  # type: ignore[arg-type]

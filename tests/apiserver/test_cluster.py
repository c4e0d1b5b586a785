"""The stand-in answers like a real control plane: shared/facts/kubernetes-observed.md, line by line.

If `KUBECONFIG_E2E` is set, the same tests run against that cluster, in their own namespace.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from responder.backends.kubernetes.client import Kubernetes, KubernetesSettings
from responder.backends.kubernetes.objects import writer_of
from tests.apiserver import Cluster
from tests.apiserver.manifests import deployment, service, statefulset
from tests.apiserver.real.client import IMAGES, REAL
from tests.parts import need, until
from tests.responder.harness import Rollback

JSON, MERGE, STRATEGIC = (f"application/{kind}+json" for kind in ("json-patch", "merge-patch", "strategic-merge-patch"))


class Api:
    """One namespace of a cluster over HTTP."""

    def __init__(self, kube: Kubernetes, namespace: str, config: Path) -> None:
        self.kube, self.namespace, self.config = kube, namespace, config

    async def __call__(self, method: str, resource: str, body: Any = None, **more: Any) -> tuple[int, dict[str, Any]]:
        home = more.pop("home", "apis/apps/v1")
        kind = more.pop("content_type", "application/json")
        path = f"/{home}/namespaces/{self.namespace}/{resource}"
        return await self.kube.request(method, path, more, body=body, content_type=kind)

    def workload(
        self, name: str = "backend", image: str = IMAGES[0], *, kind: str = "deployments", **more: Any
    ) -> dict[str, Any]:
        manifest = (deployment if kind == "deployments" else statefulset)(name, image, 2, **more)
        manifest["metadata"]["namespace"] = self.namespace
        return manifest

    async def applied(self, *, kind: str = "deployments", **more: Any) -> dict[str, Any]:
        manifest = self.workload(kind=kind, **more)
        status, answer = await self("POST", kind, manifest)
        assert status == 201, answer
        return await self.converged(f"{kind}/{manifest['metadata']['name']}")

    async def converged(self, resource: str) -> dict[str, Any]:
        """The workload after its controller has completed it."""

        async def look() -> dict[str, Any]:
            return (await self("GET", resource))[1]

        def done(found: dict[str, Any]) -> bool:
            status, wanted = found.get("status", {}), found["spec"]["replicas"]
            counts = (status.get(name) for name in ("replicas", "updatedReplicas", "availableReplicas"))
            seen = status.get("observedGeneration") == found["metadata"]["generation"]
            return seen and all(count == wanted for count in counts)

        return await until(look, done, within=60.0)


@pytest.fixture(params=["stand-in", *(["real"] if REAL else [])])
async def api(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Api]:
    if request.param == "real":
        client = await Kubernetes.connect(KubernetesSettings(kubeconfig=Path(str(REAL))))
        name = f"responder-e2e-{secrets.token_hex(3)}"
        made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        assert (await client.request("POST", "/api/v1/namespaces", body=made))[0] == 201
        yield Api(client, name, Path(str(REAL)))
        await client.request("DELETE", f"/api/v1/namespaces/{name}")
        await client.close()
        return
    cluster, config = Cluster(), tmp_path / "config"
    async with cluster.up() as url:
        config.write_text(json.dumps(cluster.kubeconfig(url)))
        client = await Kubernetes.connect(KubernetesSettings(kubeconfig=config))
        yield Api(client, "shop", config)
        await client.close()


async def test_objects_are_created(api: Api) -> None:
    status, made = await api("POST", "deployments", api.workload())
    assert status == 201
    assert made["kind"] == "Deployment"
    assert made["metadata"]["generation"] == 1
    assert made["metadata"]["uid"]
    assert made["metadata"]["resourceVersion"]
    status, answer = await api("POST", "deployments", api.workload())
    assert (status, answer["reason"], answer["kind"]) == (409, "AlreadyExists", "Status")


async def test_invalid_creations_are_refused(api: Api) -> None:
    other = api.workload()
    other["spec"]["selector"]["matchLabels"] = {"app": "other"}
    status, answer = await api("POST", "deployments", other)
    assert (status, answer["reason"]) == (422, "Invalid")
    assert "spec.template.metadata.labels" in answer["message"]


@pytest.mark.parametrize(
    ("change", "more", "status"),
    [
        (lambda spec: spec.update(replicas="many"), {}, 400),
        (lambda spec: spec.pop("selector"), {}, 422),
        (lambda spec: spec.pop("template"), {}, 422),
        (lambda spec: spec.update(replicos=3), {"fieldValidation": "Strict"}, 400),
        (lambda spec: spec.update(replicos=3), {}, 201),
        (lambda spec: spec["template"]["spec"].update(containers=[]), {}, 422),
        (lambda spec: spec["template"]["spec"].pop("containers"), {}, 422),
    ],
)
async def test_undecodable_and_invalid_objects_have_their_status(
    change: Any, more: dict[str, str], status: int, api: Api
) -> None:
    manifest = api.workload()
    change(manifest["spec"])
    found, answer = await api("POST", "deployments", manifest, **more)
    assert found == status, answer
    assert (await api("GET", "deployments"))[0] == 200  # and it still answers


async def test_a_missing_api_group_answers_404_in_plain_text(api: Api) -> None:
    """Plain text, unlike every other answer: a client must not expect JSON."""
    if await api.kube.serves("Canary"):
        pytest.skip("the named cluster serves the group")
    for path in ("canaries", "canaries/backend"):
        status, answer = await api("GET", path, home="apis/flagger.app/v1beta1")
        assert (status, answer) == (404, {"message": "404 page not found"})
    assert await api.kube.list("Canary", api.namespace) == []
    assert await api.kube.get("Canary", api.namespace, "backend") is None


async def test_missing_objects_answer_404(api: Api) -> None:
    for method in ("GET", "DELETE"):
        status, answer = await api(method, "deployments/none")
        assert (status, answer["reason"]) == (404, "NotFound")


async def test_a_deployment_creates_a_replicaset(api: Api) -> None:
    found = await api.applied()
    _, sets = await api("GET", "replicasets", labelSelector="app=backend")
    assert sets["kind"] == "ReplicaSetList"
    (replicaset,) = sets["items"]
    assert "kind" not in replicaset
    (owner,) = replicaset["metadata"]["ownerReferences"]
    assert (owner["uid"], owner["controller"]) == (found["metadata"]["uid"], True)
    assert "pod-template-hash" in replicaset["metadata"]["labels"]
    assert replicaset["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1"
    assert found["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1"


async def test_patches_are_applied(api: Api) -> None:
    await api.applied()
    containers = [{"name": "app", "image": IMAGES[1]}]
    body = {"spec": {"template": {"spec": {"containers": containers}}}}
    status, answer = await api("PATCH", "deployments/backend", body, content_type=STRATEGIC)
    assert (status, answer["metadata"]["generation"]) == (200, 2)
    change = [{"op": "replace", "path": "/spec/replicas", "value": 1}]
    assert (await api("PATCH", "deployments/backend", change, content_type=JSON))[1]["spec"]["replicas"] == 1
    assert (await api("PATCH", "deployments/backend", change, content_type="application/json"))[0] == 415
    selector = [{"op": "replace", "path": "/spec/selector/matchLabels/app", "value": "x"}]
    status, answer = await api("PATCH", "deployments/backend", selector, content_type=JSON)
    assert (status, answer["reason"]) == (422, "Invalid")


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "test", "path": "/spec/replicas", "value": 77},
        {"op": "test", "path": "/metadata/resourceVersion", "value": "1"},
        {"op": "replace", "path": "/spec/nothing/there", "value": 1},
    ],
)
async def test_an_inapplicable_patch_is_refused(operation: dict[str, Any], api: Api) -> None:
    await api.applied()
    status, answer = await api("PATCH", "deployments/backend", [operation], content_type=JSON)
    assert status == 422
    assert "the server rejected our request due to an error in our request" in answer["message"]


@pytest.mark.parametrize("how", [JSON, MERGE])
async def test_a_stale_version_is_a_conflict(how: str, api: Api) -> None:
    found = await api.applied()
    stale = found["metadata"]["resourceVersion"]
    await api("PATCH", "deployments/backend", {"metadata": {"labels": {"a": "b"}}}, content_type=MERGE)
    body: Any = {"metadata": {"resourceVersion": stale, "labels": {"c": "d"}}}
    if how == JSON:
        body = [{"op": "replace", "path": "/metadata/resourceVersion", "value": stale}]
    status, answer = await api("PATCH", "deployments/backend", body, content_type=how)
    assert (status, answer["reason"]) == (409, "Conflict")


async def test_a_dry_run_stores_nothing(api: Api) -> None:
    await api.applied()
    change = [{"op": "replace", "path": "/spec/replicas", "value": 7}]
    status, answer = await api("PATCH", "deployments/backend", change, content_type=JSON, dryRun="All")
    assert (status, answer["spec"]["replicas"]) == (200, 7)
    assert (await api("GET", "deployments/backend"))[1]["spec"]["replicas"] == 2


async def test_the_responder_is_named_as_the_writer(api: Api) -> None:
    await api.applied()
    found = await api.kube.get("Deployment", api.namespace, "backend")
    assert found
    before = writer_of(found, "spec", "paused")
    changed = await api.kube.patch(found, [{"op": "add", "path": "/spec/paused", "value": True}], dry_run=True)
    assert (before, writer_of(changed, "spec", "paused")) == ("", "rollback-responder")


async def test_a_watch_carries_the_events_of_the_controllers(api: Api) -> None:
    before = (await api.applied())["metadata"]["resourceVersion"]
    body = {"spec": {"template": {"spec": {"containers": [{"name": "app", "image": IMAGES[1]}]}}}}
    await api("PATCH", "deployments/backend", body, content_type=STRATEGIC)
    await api.converged("deployments/backend")
    query = {"watch": "1", "resourceVersion": before, "timeoutSeconds": "2", "fieldSelector": "metadata.name=backend"}
    path = f"/apis/apps/v1/namespaces/{api.namespace}/deployments"
    text = b"".join([chunk async for chunk in api.kube._stream(path, query)])
    events = [json.loads(line) for line in text.splitlines()]
    assert {event["type"] for event in events} == {"MODIFIED"}
    states = [event["object"] for event in events]
    seen = [(state["metadata"]["generation"], state["status"]["observedGeneration"]) for state in states]
    assert (seen[0], seen[-1]) == ((2, 1), (2, 2))
    assert len({state["metadata"]["resourceVersion"] for state in states}) == len(states) > 3
    assert states[-1]["status"]["updatedReplicas"] == 2


async def test_a_rollback_reuses_the_old_replicaset_with_a_new_number(api: Api) -> None:
    found = await api.applied()
    _, before = await api("GET", "replicasets")
    for image in (IMAGES[1], IMAGES[0]):
        template = found["spec"]["template"]
        template["spec"]["containers"][0]["image"] = image
        body = [{"op": "replace", "path": "/spec/template", "value": template}]
        assert (await api("PATCH", "deployments/backend", body, content_type=JSON))[0] == 200

        async def seen() -> bool:
            _, now = await api("GET", "deployments/backend")
            return bool(now["status"].get("observedGeneration") == now["metadata"]["generation"])

        await until(seen)
    _, after = await api("GET", "replicasets")
    names = {replicaset["metadata"]["name"] for replicaset in after["items"]}
    assert len(names) == 2
    old = next(
        replicaset
        for replicaset in after["items"]
        if replicaset["metadata"]["name"] == before["items"][0]["metadata"]["name"]
    )
    assert old["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"


def _on(kind: str, name: str) -> dict[str, Any]:
    return {"kubernetes": {"namespace": "NAMESPACE", kind: name}}


_COLORS = {"blue": IMAGES[0], "green": IMAGES[1]}
_WAYS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "rolling": ({"strategy": "rolling", **_on("deployment", "backend")}, ["backend"]),
    "immediate": ({"strategy": "immediate", **_on("deployment", "backend")}, ["backend"]),
    "by partition": ({"strategy": "rolling", **_on("statefulset", "backend")}, ["backend"]),
    "blue-green": (
        {
            "strategy": "blue_green",
            "pointer": {"namespace": "NAMESPACE", "service": "backend"},
            "colors": {color: _on("deployment", f"backend-{color}") for color in _COLORS},
            "ready_for": "0s",
        },
        ["backend-blue"],
    ),
}


@pytest.mark.parametrize("way", _WAYS)
async def test_the_responder_rolls_back(way: str, api: Api) -> None:
    """A complete rollback by the responder, on any cluster."""
    strategy, after = _WAYS[way]
    resource = "statefulsets" if way == "by partition" else "deployments"
    if way == "blue-green":
        for color, image in _COLORS.items():
            await api.applied(name=f"backend-{color}", image=image, labels={"app": "backend", "color": color})
        manifest = service("backend", {"app": "backend", "color": "green"})
        manifest["metadata"]["namespace"] = api.namespace
        assert (await api("POST", "services", manifest, home="api/v1"))[0] == 201
    else:
        found = await api.applied(kind=resource)
        template = found["spec"]["template"]
        template["spec"]["containers"][0]["image"] = IMAGES[1]
        body = [{"op": "replace", "path": "/spec/template", "value": template}]
        assert (await api("PATCH", f"{resource}/backend", body, content_type=JSON))[0] == 200
        await api.converged(f"{resource}/backend")
    healthy = [{"pods": {"namespace": api.namespace, "labels": {"app": "backend"}, "at_least": 2}}]
    good, bad = (image.rpartition(":")[2] for image in IMAGES)
    strategy = json.loads(json.dumps(strategy).replace("NAMESPACE", api.namespace))
    ended = await Rollback(
        strategy, {Kubernetes: api.kube}, health_checks=healthy, from_version=bad, to_version=good
    ).run()
    assert ended.outcome == "succeeded", ended.reason
    for name in after:
        _, found = await api("GET", f"{resource}/{name}")
        assert found["spec"]["template"]["spec"]["containers"][0]["image"] == IMAGES[0]
    if way == "blue-green":
        assert (await api("GET", "services/backend", home="api/v1"))[1]["spec"]["selector"]["color"] == "blue"


async def test_kubectl_accepts_the_server(api: Api) -> None:
    need("kubectl")
    await api.applied()
    for argv in (
        ("set", "image", "deployment/backend", f"app={IMAGES[1]}"),
        ("rollout", "undo", "deployment/backend"),
        ("rollout", "status", "deployment/backend", "--timeout=30s"),
    ):
        process = await asyncio.create_subprocess_exec(
            "kubectl", "--kubeconfig", str(api.config), "--namespace", api.namespace, *argv,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate()
        assert process.returncode == 0, output
        await api.converged("deployments/backend")
    assert b"successfully rolled out" in output
    assert (await api("GET", "deployments/backend"))[1]["spec"]["template"]["spec"]["containers"][0]["image"] == IMAGES[
        0
    ]

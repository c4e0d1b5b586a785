"""The client and a server over HTTP: requests on the wire, and the meaning of errors."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from responder.backends.kubernetes import client as kubernetes_client
from responder.backends.kubernetes.api import AccessDenied
from responder.backends.kubernetes.client import Kubernetes, KubernetesSettings
from responder.errors import LeaseLost, StepFailed, Unavailable
from responder.transport.acting import acting
from tests.apiserver import Cluster
from tests.apiserver.client import InProcess
from tests.apiserver.manifests import deployment

TOKEN = "a-token-of-the-responder"


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster(token=TOKEN)
    token, cluster.token = cluster.token, ""
    cluster.apply(deployment("backend", "shop:1"))
    cluster.token = token
    return cluster


@pytest.fixture
async def kubernetes(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Kubernetes]:
    async with cluster.up() as url:
        file = tmp_path / "config"
        file.write_text(json.dumps(cluster.kubeconfig(url)))
        client = await Kubernetes.connect(KubernetesSettings(kubeconfig=file, timeout=2.0))
        yield client
        await client.close()


async def test_objects_are_read_as_raw_json(kubernetes: Kubernetes, cluster: Cluster) -> None:
    cluster.get("Deployment", "shop", "backend")["spec"]["fieldOfTomorrow"] = {"x": 1}
    found = await kubernetes.get("Deployment", "shop", "backend")
    assert found
    assert found["spec"]["fieldOfTomorrow"] == {"x": 1}
    assert await kubernetes.get("Deployment", "shop", "none") is None
    (replica_set,) = await kubernetes.list("ReplicaSet", "shop", {"app": "backend"})
    assert replica_set["kind"] == "ReplicaSet"  # the server omits it in lists
    assert await kubernetes.list("ReplicaSet", "shop", {"app": "other"}) == []


async def test_unknown_fields_survive_a_patch(kubernetes: Kubernetes, cluster: Cluster) -> None:
    cluster.get("Deployment", "shop", "backend")["spec"]["template"]["spec"]["fieldOfTomorrow"] = {"x": 1}
    found = await kubernetes.get("Deployment", "shop", "backend")
    assert found
    await kubernetes.patch(found, [{"op": "replace", "path": "/spec/replicas", "value": 2}])
    assert cluster.get("Deployment", "shop", "backend")["spec"]["template"]["spec"]["fieldOfTomorrow"] == {"x": 1}


async def test_a_concurrent_change_is_not_overwritten(kubernetes: Kubernetes, cluster: Cluster) -> None:
    found = await kubernetes.get("Deployment", "shop", "backend")
    assert found
    change = [{"op": "replace", "path": "/spec/replicas", "value": 2}]
    await kubernetes.patch(found, change)
    with pytest.raises(Unavailable, match="was changed at the same time"):
        await kubernetes.patch(found, [{"op": "replace", "path": "/spec/replicas", "value": 9}])
    assert cluster.get("Deployment", "shop", "backend")["spec"]["replicas"] == 2


async def test_a_dry_run_changes_nothing(kubernetes: Kubernetes, cluster: Cluster) -> None:
    found = await kubernetes.get("Deployment", "shop", "backend")
    assert found
    patched = await kubernetes.patch(found, [{"op": "replace", "path": "/spec/replicas", "value": 9}], dry_run=True)
    assert patched["spec"]["replicas"] == 9
    assert cluster.get("Deployment", "shop", "backend")["spec"]["replicas"] == 4


async def test_a_rejected_patch_has_its_reason(kubernetes: Kubernetes) -> None:
    found = await kubernetes.get("Deployment", "shop", "backend")
    assert found
    with pytest.raises(StepFailed, match="must be greater than minReadySeconds"):
        await kubernetes.patch(found, [{"op": "add", "path": "/spec/minReadySeconds", "value": 600}])


async def test_permissions_are_checked(kubernetes: Kubernetes, cluster: Cluster) -> None:
    cluster.forbidden.add(("patch", "apps/deployments"))
    assert not await kubernetes.may("patch", "Deployment", "shop")
    assert await kubernetes.may("get", "Pod", "shop")
    found = await kubernetes.get("Deployment", "shop", "backend")
    assert found
    with pytest.raises(AccessDenied, match="the cluster denies access"):
        await kubernetes.patch(found, [{"op": "replace", "path": "/spec/replicas", "value": 2}])


async def test_a_newer_pod_of_the_same_name_is_not_deleted(kubernetes: Kubernetes, cluster: Cluster) -> None:
    pod = cluster.all("Pod")[0]
    other = {**pod, "metadata": {**pod["metadata"], "uid": "of another time"}}
    await kubernetes.delete_pod(other)
    assert pod in cluster.all("Pod")
    await kubernetes.delete_pod(pod)
    assert pod not in cluster.all("Pod")


async def test_an_expired_token_is_read_again(kubernetes: Kubernetes, cluster: Cluster, tmp_path: Path) -> None:
    assert await kubernetes.get("Deployment", "shop", "backend")
    cluster.token = "the-next-token-of-the-responder"
    kubeconfig = json.loads((tmp_path / "config").read_text())
    kubeconfig["users"][0]["user"]["token"] = cluster.token
    (tmp_path / "config").write_text(json.dumps(kubeconfig))
    assert await kubernetes.get("Deployment", "shop", "backend")


async def test_concurrent_requests_share_a_connection_and_a_new_token(
    kubernetes: Kubernetes, cluster: Cluster, tmp_path: Path
) -> None:
    async def ask(n: int) -> bool:
        return bool(await kubernetes.get("Deployment", "shop", "backend"))

    assert all(await asyncio.gather(*map(ask, range(20))))
    connected = kubernetes._api
    kubeconfig = json.loads((tmp_path / "config").read_text())
    for n in range(3):
        cluster.token = kubeconfig["users"][0]["user"]["token"] = f"token-{n}-of-the-responder"
        (tmp_path / "config").write_text(json.dumps(kubeconfig))
        assert all(await asyncio.gather(*map(ask, range(20))))
    assert kubernetes._api is not connected


async def test_a_wrong_token_is_reported(kubernetes: Kubernetes, cluster: Cluster) -> None:
    cluster.token = "another"
    with pytest.raises(AccessDenied, match="Unauthorized"):
        await kubernetes.get("Deployment", "shop", "backend")


async def test_nothing_is_changed_without_the_lease(kubernetes: Kubernetes, cluster: Cluster) -> None:
    def gone() -> None:
        raise LeaseLost("the lease has run out")

    found = await kubernetes.get("Deployment", "shop", "backend")
    assert found
    token = acting.set(gone)
    try:
        assert await kubernetes.get("Deployment", "shop", "backend")
        with pytest.raises(LeaseLost):
            await kubernetes.patch(found, [{"op": "replace", "path": "/spec/replicas", "value": 2}])
    finally:
        acting.reset(token)
    assert cluster.get("Deployment", "shop", "backend")["spec"]["replicas"] == 4


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (503, {"message": "etcd is away"}, "503: etcd is away"),
        (429, {}, "429"),
        (200, "<html>", "answered 200 without metadata: <html>"),
    ],
)
async def test_server_errors_are_unavailable(status: int, body: Any, why: str, tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, text=body if isinstance(body, str) else json.dumps(body))

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    file = tmp_path / "config"
    file.write_text(json.dumps(Cluster().kubeconfig(f"http://127.0.0.1:{runner.addresses[0][1]}")))
    client = await Kubernetes.connect(KubernetesSettings(kubeconfig=file))
    with pytest.raises(Unavailable, match=why):
        await client.get("Pod", "shop", "one")
    await client.close()
    await runner.cleanup()


async def test_an_unreachable_server_is_unavailable(tmp_path: Path, free_port: int) -> None:
    file = tmp_path / "config"
    file.write_text(json.dumps(Cluster().kubeconfig(f"http://127.0.0.1:{free_port}")))
    client = await Kubernetes.connect(KubernetesSettings(kubeconfig=file))
    with pytest.raises(Unavailable, match="the Kubernetes API"):
        await client.get("Pod", "shop", "one")
    await client.close()


@pytest.mark.parametrize("content", [None, "nonsense: [", "clusters: []"])
async def test_a_missing_configuration_is_reported(content: str | None, tmp_path: Path) -> None:
    file = tmp_path / "config"
    if content:
        file.write_text(content)
    client = await Kubernetes.connect(KubernetesSettings(kubeconfig=file))
    with pytest.raises(StepFailed, match="no Kubernetes cluster is configured"):
        await client.get("Pod", "shop", "one")


class Counting(InProcess):
    """Records the requested paths."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        self.paths: list[str] = []

    async def _send(self, method: str, path: str, *rest: Any) -> tuple[int, Any]:
        self.paths.append(path)
        return await super()._send(method, path, *rest)


async def test_discovery_decides_once_which_kinds_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster()
    client = Counting(cluster)
    for _ in range(3):
        assert await client.list("Canary", "shop") == []
        assert await client.get("Canary", "shop", "backend") is None
    assert client.paths == ["/apis/flagger.app/v1beta1"]
    cluster.installed.add("flagger.app")
    assert not await client.serves("Canary")
    monkeypatch.setattr(kubernetes_client, "_DISCOVERED_FOR", -1.0)
    assert await client.serves("Canary"), "it was installed since"
    await client.list("Canary", "shop")
    assert client.paths[-1] == "/apis/flagger.app/v1beta1/namespaces/shop/canaries"


_IMPORTS = """
import asyncio, sys, threading
from pathlib import Path
from responder.backends.kubernetes.client import Kubernetes, KubernetesSettings
from responder.errors import StepFailed

threads = []

class Seen:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("kubernetes."):
            threads.append(threading.current_thread())

sys.meta_path.insert(0, Seen())

async def ask():
    client = await Kubernetes.connect(KubernetesSettings(kubeconfig=Path(sys.argv[1])))
    try:
        await client.get("Pod", "shop", "one")
    except StepFailed:
        pass

asyncio.run(ask())
print(len(threads) > 0, threading.main_thread() in threads)
"""


async def test_the_sdk_is_not_imported_on_the_event_loop(tmp_path: Path) -> None:
    """It takes half a second, and on a slow machine longer than a lease."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _IMPORTS, str(tmp_path / "none"), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert output.split() == [b"True", b"False"]

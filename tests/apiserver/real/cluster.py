"""A cluster that `KUBECONFIG_E2E` names, in the place of the stand-in, in a namespace of its own.

Its nodes must run pods. `KUBECONFIG_E2E_IMAGES` names two images that become ready: version 1 and version 2.
`KUBECONFIG_E2E_NODES` names a directory from which simulated nodes read how images start, in `NAMESPACE.json`: without
it, tests with images that fail are skipped. Tests that need what only the stand-in can do are skipped too.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from responder.backends.kubernetes.client import Kubernetes, KubernetesSettings
from tests.apiserver.kinds import RESOURCES, VERSIONS, request_of
from tests.apiserver.store import Image, Object

REAL = os.environ.get("KUBECONFIG_E2E", "")
IMAGES = os.environ.get("KUBECONFIG_E2E_IMAGES", "shop:1 shop:2").split()
_NODES = os.environ.get("KUBECONFIG_E2E_NODES", "")

_IDLE_FOR, _LOOK_EVERY, _AT_MOST = 0.6, 0.1, 20.0
"""Seconds without a change until the controllers count as idle, between two looks, and at most."""
_LONGEST_WAIT, _LONGEST_TEST = 15.0, 60.0
_WATCHED = ("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Pod", "EndpointSlice")


def to_real(text: str, namespace: str) -> str:
    """A path or a JSON text, with the names of the cluster."""
    for n, image in enumerate(IMAGES, 1):
        text = text.replace(f'"shop:{n}"', f'"{image}"')
    return re.sub(r'(/namespaces/|"namespace": ")shop\b', rf"\g<1>{namespace}", text)


def from_real(text: str, namespace: str) -> str:
    for n, image in enumerate(IMAGES, 1):
        text = text.replace(image, f"shop:{n}")
    return text.replace(namespace, "shop")


def only_in_the_stand_in(what: str) -> Any:
    pytest.skip(f"only the stand-in has {what}")


class RealClient(Kubernetes):
    """The responder's client; the namespace shop is the one of the test."""

    def __init__(self, cluster: RealCluster) -> None:
        super().__init__(KubernetesSettings(kubeconfig=Path(REAL)))
        self._cluster = cluster

    async def _send(
        self, method: str, path: str, query: dict[str, str] | None, body: Any, content_type: str
    ) -> tuple[int, Object]:
        namespace = self._cluster.namespace
        self._cluster.requests.append(request_of(method, path)[:2])
        query = {**(query or {}), **(self._manager() if method in ("POST", "PUT", "PATCH") else {})}
        sent = json.loads(to_real(json.dumps(body), namespace)) if body is not None else None
        status, answer = await super()._send(method, to_real(path, namespace), query, sent, content_type)
        return status, json.loads(from_real(json.dumps(answer), namespace))

    def _manager(self) -> dict[str, str]:
        return {}


class _Tests(RealClient):
    def _manager(self) -> dict[str, str]:
        return {"fieldManager": self._cluster.manager}


class _Stored(dict[str, Any]):
    """An answer; a test cannot change what the server stores by changing it."""

    def __setitem__(self, key: str, value: Any) -> None:
        only_in_the_stand_in("objects that are changed in place")

    def __missing__(self, key: str) -> Any:
        if key in ("born", "readySince"):
            only_in_the_stand_in(key)
        raise KeyError(key)


class _Images(dict[str, Image]):
    def __init__(self, namespace: str) -> None:
        super().__init__()
        self._namespace, self._file = namespace, Path(_NODES, f"{namespace}.json")

    def __setitem__(self, key: str, image: Image) -> None:
        if not _NODES or image.digest:
            only_in_the_stand_in("images that start as a test wants")
        super().__setitem__(key, image)
        starts = {key: image.ready_after or image.starts for key, image in self.items()}
        self._file.write_text(to_real(json.dumps(starts), self._namespace))

    def close(self) -> None:
        if _NODES:
            self._file.unlink(missing_ok=True)


class _Refused(set[Any]):
    def add(self, _: Any) -> None:
        only_in_the_stand_in("an account with fewer rights")

    def __ior__(self, _: Any) -> Any:
        return only_in_the_stand_in("an account with fewer rights")


class RealCluster:
    """What the tests use of the stand-in's `Cluster`, on a real one."""

    def __init__(self) -> None:
        self.namespace, self.manager = f"responder-e2e-{secrets.token_hex(3)}", "tests"
        self.requests: list[tuple[str, str]] = []
        self._clients: list[RealClient] = []
        self.images, self.forbidden, self.lags = _Images(self.namespace), _Refused(), True
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._client = _Tests(self)
        made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}}
        self._good(self._request("POST", "/api/v1/namespaces", made))

    async def close(self) -> None:
        for client in self._clients:
            await client.close()
        self.images.close()
        self._request("DELETE", f"/api/v1/namespaces/{self.namespace}")
        asyncio.run_coroutine_threadsafe(self._client.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def client(self) -> RealClient:
        self._clients.append(RealClient(self))
        return self._clients[-1]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return only_in_the_stand_in(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("controllers", "handle", "token"):
            only_in_the_stand_in(name)
        super().__setattr__(name, value)

    @property
    def quota(self) -> int | None:
        return None

    @quota.setter
    def quota(self, pods: int | None) -> None:
        path, name = "/api/v1/namespaces/shop/resourcequotas", "pods"
        self._request("DELETE", f"{path}/{name}")
        if pods is None:
            return
        made = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name}}
        self._good(self._request("POST", path, {**made, "spec": {"hard": {"pods": str(pods)}}}))
        deadline = time.monotonic() + _AT_MOST
        while "used" not in self._good(self._request("GET", f"{path}/{name}")).get("status", {}):
            assert time.monotonic() < deadline, "the quota has no effect"
            time.sleep(_LOOK_EVERY)

    def handle(self, method: str, path: str) -> tuple[int, Any]:
        return self._request(method, path)

    def all(self, kind: str, namespace: str | None = None) -> list[Object]:
        path = self._path({"kind": kind, "metadata": {"namespace": namespace or "shop", "name": ""}})
        found = self._good(self._request("GET", path.rstrip("/")))
        return [_stored({"kind": kind, "apiVersion": found["apiVersion"], **item}) for item in found["items"]]

    def get(self, kind: str, namespace: str, name: str) -> Object:
        path = self._path({"kind": kind, "metadata": {"namespace": namespace, "name": name}})
        status, answer = self._request("GET", path)
        if status == 404:
            raise KeyError(name)
        return _stored(self._good((status, answer)))

    def put(self, manifest: Object, *, before: Object | None = None) -> Object:
        meta = {k: v for k, v in manifest["metadata"].items() if k not in ("resourceVersion", "managedFields")}
        if manifest["kind"] == "Node" or "deletionTimestamp" in meta or (before is None and "status" in manifest):
            only_in_the_stand_in("nodes, deletions and states that a test sets")
        if before is None:
            return self.apply(manifest)
        status, answer = self._request("PUT", self._path(manifest), {**manifest, "metadata": meta})
        if status == 422:
            only_in_the_stand_in(f"objects that a server refuses: {answer.get('message')}")
        return self._good((status, answer))

    def apply(self, manifest: Object) -> Object:
        if manifest["metadata"].get("namespace", "shop") != "shop":
            only_in_the_stand_in("other namespaces")
        path = self._path(manifest)
        status, answer = self._request("POST", path.rpartition("/")[0], manifest)
        if status == 404:
            only_in_the_stand_in(f"the kind {manifest['kind']}")
        if status == 409:
            kind = "application/strategic-merge-patch+json"
            status, answer = self._request("PATCH", path, manifest, kind)
        self._good((status, answer))
        self.step()
        return answer

    def drop(self, found: Object) -> None:
        self._good(self._request("DELETE", self._path(found)))
        self.step()

    def step(self) -> None:
        """Waits until the controllers are idle."""
        deadline, before, since = time.monotonic() + _AT_MOST, "", time.monotonic()
        while time.monotonic() < deadline:
            now = json.dumps([self.all(kind, "shop") for kind in _WATCHED])
            if now != before:
                before, since = now, time.monotonic()
            elif time.monotonic() - since > _IDLE_FOR:
                return
            time.sleep(_LOOK_EVERY)

    def catch_up(self) -> None:
        """Its controllers need nobody to run them."""

    @staticmethod
    def _path(found: Object) -> str:
        resource, meta = RESOURCES[found["kind"]], found["metadata"]
        group, _, plural = resource.rpartition("/")
        home = f"/apis/{VERSIONS[group]}" if group else "/api/v1"
        return f"{home}/namespaces/{meta.get('namespace', 'shop')}/{plural}/{meta['name']}"

    def _request(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json"
    ) -> tuple[int, Object]:
        count = len(self.requests)
        request = self._client.request(method, path, body=body, content_type=content_type)
        answer = asyncio.run_coroutine_threadsafe(request, self._loop).result(60)
        del self.requests[count:]
        return answer

    @staticmethod
    def _good(answer: tuple[int, Object]) -> Object:
        assert answer[0] < 300, answer
        return answer[1]


def _stored(value: Any) -> Any:
    if isinstance(value, dict):
        return _Stored({key: _stored(item) for key, item in value.items()})
    return [_stored(item) for item in value] if isinstance(value, list) else value


class RealClock:
    """Time of its own accord."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    @property
    def now(self) -> float:
        return time.monotonic() - self._start

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        if seconds > _LONGEST_WAIT or self.now > _LONGEST_TEST:
            only_in_the_stand_in("time that passes at will")
        time.sleep(seconds)

"""A cluster that `KUBECONFIG_E2E` names, in the place of the stand-in, in a namespace of its own.

Its nodes must run pods. `KUBECONFIG_E2E_IMAGES` names two images that become ready: version 1 and version 2.
`KUBECONFIG_E2E_NODES` names a directory from which simulated nodes read how images start, in `NAMESPACE.json`: without
it, tests with images that fail are skipped. Tests that need what only the stand-in can do are skipped too.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.apiserver.kinds import BUILT_IN, RESOURCES, VERSIONS
from tests.apiserver.real.account import Account, Right
from tests.apiserver.real.client import REAL, ClientOfTests, RealClient, to_real
from tests.apiserver.store import Image, Object

_NODES = os.environ.get("KUBECONFIG_E2E_NODES", "")

_IDLE_FOR, _LOOK_EVERY, _AT_MOST = 1.0, 0.1, 20.0
"""Seconds without a change until the controllers count as idle, between two looks, and at most."""
_LONGEST_WAIT, _LONGEST_TEST = 15.0, 60.0
_WATCHED = ("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Pod", "EndpointSlice")


def only_in_the_stand_in(what: str) -> Any:
    pytest.skip(f"only the stand-in has {what}")


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


class _Forbidden(set[Right]):
    def __init__(self, account: Account) -> None:
        super().__init__()
        self._account = account

    def add(self, right: Right) -> None:
        self |= {right}

    def __ior__(self, rights: Any) -> Any:  # type: ignore[misc]
        super().__ior__(rights)
        self._account.forbid(self)
        return self

    def clear(self) -> None:
        super().clear()
        self._account.forbid(self)


class _Installed(set[str]):
    """The API groups that the cluster serves, such as those of `custom_kinds`."""

    def add(self, group: str) -> None:
        if group not in self:
            only_in_the_stand_in(f"the API group {group}, because the named cluster does not serve it")

    def __ior__(self, groups: Any) -> Any:  # type: ignore[misc]
        for group in groups:
            self.add(group)
        return self


class RealCluster:
    """What the tests use of the stand-in's `Cluster`, on a real one."""

    def __init__(self) -> None:
        self.namespace, self.manager = f"responder-e2e-{secrets.token_hex(3)}", "tests"
        self.requests: list[tuple[str, str]] = []
        self._clients: list[RealClient] = []
        self.images, self.lags = _Images(self.namespace), True
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._client = ClientOfTests(self, Path(REAL))
        made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}}
        self._good(self._request("POST", "/api/v1/namespaces", made))
        self._account = Account(self._request, self.namespace)
        self.forbidden = _Forbidden(self._account)
        groups = self._good(self._request("GET", "/apis"))["groups"]
        self.installed = _Installed(group["name"] for group in groups)
        self._directory = tempfile.TemporaryDirectory(prefix="responder-e2e-")

    async def close(self) -> None:
        for client in self._clients:
            await client.close()
        self.images.close()
        self._account.close()
        self._directory.cleanup()
        self._request("DELETE", f"/api/v1/namespaces/{self.namespace}")
        asyncio.run_coroutine_threadsafe(self._client.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def client(self) -> RealClient:
        config = yaml.safe_load(Path(REAL).read_text())
        config["users"] = [{**user, "user": {"token": self._account.token}} for user in config["users"]]
        file = Path(self._directory.name, "kubeconfig")
        file.write_text(yaml.safe_dump(config))
        self._clients.append(RealClient(self, file))
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
        found: Object = _stored(self._good((status, answer)))
        return found

    def put(self, manifest: Object, *, before: Object | None = None) -> Object:
        meta = {k: v for k, v in manifest["metadata"].items() if k not in ("resourceVersion", "managedFields")}
        if manifest["kind"] == "Node" or "deletionTimestamp" in meta or (before is None and "status" in manifest):
            only_in_the_stand_in("nodes, deletions and states that a test sets")
        if "ownerReferences" in meta:
            only_in_the_stand_in("owners that do not exist: a real cluster deletes what they own")
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
            built_in = RESOURCES[manifest["kind"]].rpartition("/")[0] in BUILT_IN
            kind = f"application/{'strategic-merge' if built_in else 'merge'}-patch+json"
            status, answer = self._request("PATCH", path, manifest, kind)
        self._good((status, answer))
        self.step()
        return answer

    def drop(self, found: Object) -> None:
        if found["kind"] == "Node":
            only_in_the_stand_in("nodes that a test removes")
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
        within = "" if found["kind"] == "Node" else f"/namespaces/{meta.get('namespace', 'shop')}"
        return f"{home}{within}/{plural}/{meta['name']}"

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

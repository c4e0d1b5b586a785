"""Records the answers of a real control plane: `KUBECONFIG_E2E=… python -m tests.apiserver.real.record [VERSION]`.

`VERSION` is for a build that does not know its own. The nodes must run pods. What differs from run to run is
normalized: UIDs, versions, times, addresses and hashes.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp

from responder.backends.kubernetes.client import Kubernetes, KubernetesSettings
from tests.apiserver.real.client import REAL, from_real, to_real
from tests.apiserver.real.requests import all_requests

Object = dict[str, Any]
RECORDED = Path(__file__).with_name("answers.json")

_IDLE_FOR = 1.0
"""Seconds without a change until the controllers count as idle."""
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_NAME = re.compile(r"\b(backend|web|agent)-(?:[a-z0-9]{8,10})(-[a-z0-9]{5})?(?![a-z0-9])")
_SUFFIX = re.compile(r"\b(backend|agent)-[a-z0-9]{5}(?![a-z0-9-])")
_UID = re.compile(r"\b(?!0{8})[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\buid-\d+\b")
_TOO_OLD = re.compile(r"too old resource version: \d+ \(\d+\)")
_OBJECT = re.compile(r'Invalid value: "\{.*\}"')
"""A rejected patch quotes the patched object."""
_VOLATILE = {
    "uid": "UID", "resourceVersion": "VERSION", "podIP": "ADDRESS", "hostIP": "ADDRESS", "clusterIP": "ADDRESS",
    "ip": "ADDRESS", "clusterIPs": ["ADDRESS"], "addresses": ["ADDRESS"], "nodeName": "NODE", "continue": "MORE",
    "pod-template-hash": "HASH", "controller.kubernetes.io/hash": "HASH", "imageID": "DIGEST",
}  # fmt: skip


_CONTROLLERS = ("kube-controller-manager", "kubelet")


def _fields(found: Object) -> Object:
    """Without `.`, which depends on the schema."""
    return {key: _fields(value) for key, value in found.items() if key != "."}


def normalized(value: Any, key: str = "") -> Any:
    """Without what differs from run to run, and without the fields that controllers manage."""
    if key == "managedFields":
        return _sorted(_fields(entry["fieldsV1"]) for entry in value if entry["manager"] not in _CONTROLLERS)
    if key in _VOLATILE and value:
        return _VOLATILE[key]
    if isinstance(value, dict):
        found = {k: normalized(v, k) for k, v in value.items()}
        _normalize(found)
        return found
    if isinstance(value, list):
        found = [normalized(item) for item in value]
        return _sorted(found) if key in ("items", "endpoints", "conditions") else found
    if isinstance(value, str):
        value = _OBJECT.sub('Invalid value: "OBJECT"', _UID.sub("UID", _TIME.sub("TIME", value)))
        value = _NAME.sub(lambda m: f"{m[1]}-HASH{'-SUFFIX' if m[2] else ''}", value)
        value = _TOO_OLD.sub("too old resource version", value)
        value = _SUFFIX.sub(r"\1-SUFFIX", value)
    return value


def _sorted(found: Iterable[Any]) -> list[Any]:
    return sorted(found, key=lambda item: json.dumps(item, sort_keys=True))


def _normalize(found: Object) -> None:
    meta, spec = found.get("metadata") or {}, found.get("spec") or {}
    if "containers" in spec or not meta.get("managedFields"):  # those of a pod are the kubelet's
        meta.pop("managedFields", None)
    if "endpoints" in found:
        meta.pop("generation", None)  # one for each pod that became ready, or for several
    if "pod-template-hash" in meta.get("labels", {}) and "template" in spec:
        meta["generation"] = found["status"]["observedGeneration"] = "GENERATION"  # one for each step
    if re.fullmatch(r"[a-z0-9]{8,10}", str(found.get("controller-revision-hash", ""))):
        found["controller-revision-hash"] = "HASH"


class Api(Kubernetes):
    """Complete answers of a cluster, in a namespace that the requests call shop."""

    def __init__(self, kubeconfig: Path, namespace: str = "shop") -> None:
        super().__init__(KubernetesSettings(kubeconfig=kubeconfig))
        self.namespace, self._created, self._since = namespace, dict[str, str](), ""
        self._headers: dict[str, str] = {}

    async def ask(self, request: Object) -> Object:
        """Status, content type and normalized answer."""
        path, query = to_real(request["path"], self.namespace), dict(request.get("query", {}))
        if query.get("resourceVersion") == "$SINCE":
            query["resourceVersion"] = self._since
        body = to_real(json.dumps(request.get("body")), self.namespace)
        if "$VERSION" in body:
            _, found = await self.request("GET", path)
            body = body.replace("$VERSION", found["metadata"]["resourceVersion"])
        body = body.replace("$STALE", self._created.get(path, "1"))
        kind, sent = request.get("content_type", "application/json"), json.loads(body)
        api = await self._connected()
        self._headers = request.get("headers", {})
        called = await self._call(api, request["method"], path, query, sent, kind)
        text = await called.response.text()
        if request["method"] == "POST" and called.response.status == 201 and "dryRun" not in query:
            meta = json.loads(text)["metadata"]
            self._since = meta.get("resourceVersion", "")
            self._created[f"{path}/{meta.get('name')}"] = self._since
        answer: Any = text
        if called.response.content_type == "application/json":
            lines = (
                from_real(text, self.namespace).splitlines() if "watch" in query else [from_real(text, self.namespace)]
            )
            answer = [normalized(json.loads(line)) for line in lines]
            answer = answer if "watch" in query else answer[0]
        return {"status": called.response.status, "content_type": called.response.content_type, "body": answer}

    async def _call(
        self, api: Any, method: str, path: str, query: dict[str, str] | None, body: Any, content_type: str
    ) -> Any:
        headers = {"Accept": "application/json", "Content-Type": content_type}
        for auth in (await api.configuration.auth_settings()).values():
            headers[auth["key"]] = auth["value"]
        headers = {key.title(): value for key, value in headers.items()} | self._headers
        self._headers = {}
        url = f"{api.configuration.host}{path}{'?' + urlencode(query) if query else ''}"
        return await api.call_api(method, url, headers, body=body, _request_timeout=aiohttp.ClientTimeout(total=20))

    async def idle(self) -> None:
        """Returns when nothing changed for a while."""
        before, same = "", 0.0
        while same < _IDLE_FOR:
            found = [await self.request("GET", f"/{home}/namespaces/{self.namespace}/{kind}")
                     for home, kind in (("apis/apps/v1", "deployments"), ("apis/apps/v1", "replicasets"),
                                        ("apis/apps/v1", "statefulsets"), ("api/v1", "pods"))]  # fmt: skip
            now = json.dumps([answer["items"] for _, answer in found])
            before, same = now, same + 0.2 if now == before else 0.0
            await asyncio.sleep(0.2)


async def _record() -> None:
    api = Api(Path(REAL), f"responder-e2e-{secrets.token_hex(3)}")
    made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": api.namespace}}
    assert (await api.request("POST", "/api/v1/namespaces", body=made))[0] == 201
    cases = []
    try:
        await asyncio.sleep(1.0)  # until its own objects exist
        for request in all_requests():
            if request.get("idle"):
                await api.idle()
            await asyncio.sleep(request.get("seconds", 0.0))
            cases.append({**request, "answered": await api.ask(request)})
        version = sys.argv[1] if sys.argv[1:] else (await api.request("GET", "/version"))[1]["gitVersion"]
    finally:
        await api.request("DELETE", f"/api/v1/namespaces/{api.namespace}")
        await api.close()
    lines = ",\n".join(json.dumps(case, sort_keys=True) for case in cases)
    RECORDED.write_text(f'{{"server": {json.dumps(version)}, "cases": [\n{lines}\n]}}\n')
    print(f"{len(cases)} answers of {version}")


if __name__ == "__main__":
    asyncio.run(_record())

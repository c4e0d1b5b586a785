"""Clients of a real cluster, for which the namespace of the test is called shop and its images have the usual names."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from responder.backends.kubernetes.client import Kubernetes, KubernetesSettings
from tests.apiserver.kinds import request_of
from tests.apiserver.store import Object

if TYPE_CHECKING:
    from tests.apiserver.real.cluster import RealCluster

REAL = os.environ.get("KUBECONFIG_E2E", "")
IMAGES = os.environ.get("KUBECONFIG_E2E_IMAGES", "shop:1 shop:2").split()


def to_real(text: str, namespace: str) -> str:
    """A path or a JSON text, with the names of the cluster."""
    for n, image in enumerate(IMAGES, 1):
        text = text.replace(f'"shop:{n}"', f'"{image}"')
    return re.sub(r'(/namespaces/|"namespace": ")shop\b', rf"\g<1>{namespace}", text)


def from_real(text: str, namespace: str) -> str:
    for n, image in enumerate(IMAGES, 1):
        text = text.replace(image, f"shop:{n}")
    return text.replace(namespace, "shop")


class RealClient(Kubernetes):
    """The responder's client with its account; the namespace shop is the one of the test."""

    def __init__(self, cluster: RealCluster, kubeconfig: Path) -> None:
        super().__init__(KubernetesSettings(kubeconfig=kubeconfig))
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


class ClientOfTests(RealClient):
    def _manager(self) -> dict[str, str]:
        return {"fieldManager": self._cluster.manager}

"""The responder's client without a socket to the cluster: fast enough for thousands of drills."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from responder.backends.kubernetes.api import decoded, good
from responder.backends.kubernetes.client import Kubernetes, KubernetesSettings
from responder.backends.kubernetes.objects import MANAGER
from responder.transport.acting import acting
from tests.apiserver.cluster import Cluster, Object
from tests.apiserver.real.cluster import RealCluster, only_in_the_stand_in


class InProcess(Kubernetes):
    """The real client except for its transport."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(KubernetesSettings())
        if isinstance(cluster, RealCluster):
            only_in_the_stand_in("requests without a network")
        self.cluster = cluster

    async def _send(
        self, method: str, path: str, query: dict[str, str] | None, body: Any, content_type: str
    ) -> tuple[int, Object]:
        if method != "GET":
            acting.get()()
        self.cluster.manager = MANAGER
        try:
            status, answer = self.cluster.handle(method, path, query, body, content_type, self.cluster.token)
            return status, answer if isinstance(answer, dict) else decoded(answer.encode())
        finally:
            self.cluster.manager = "tests"

    async def _stream(self, path: str, query: dict[str, str]) -> AsyncGenerator[bytes, None]:
        status, answer = self.cluster.handle("GET", path, query, None, "text/plain", self.cluster.token)
        if status != 200:
            good(status, decoded(answer.encode()) if isinstance(answer, str) else answer, path)
        yield str(answer).encode()


def client_of(cluster: Cluster | RealCluster) -> Kubernetes:
    """The responder's client for the stand-in, or for the cluster that takes its place."""
    return cluster.client() if isinstance(cluster, RealCluster) else InProcess(cluster)

"""A control plane in memory with its own clock, and the responder's client for it.

If `KUBECONFIG_E2E` is set, the tests run on that cluster too, as far as they do not depend on the stand-in.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from responder.backends.kubernetes.client import Kubernetes
from tests.apiserver import Cluster
from tests.apiserver.client import client_of
from tests.apiserver.real.client import REAL
from tests.apiserver.real.cluster import RealClock, RealCluster


class Clock:
    """Time that passes only while a caller waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture(params=["stand-in", *(["real"] if REAL else [])])
async def real(request: pytest.FixtureRequest) -> AsyncIterator[RealCluster | None]:
    """The named cluster instead of the stand-in."""
    if request.param == "stand-in":
        yield None
        return
    cluster = RealCluster()
    yield cluster
    await cluster.close()


@pytest.fixture
def clock(real: RealCluster | None) -> Any:
    return RealClock() if real else Clock()


@pytest.fixture
def cluster(real: RealCluster | None, clock: Any) -> Any:
    return real or Cluster(clock=clock)


@pytest.fixture
def kube(cluster: Cluster) -> Kubernetes:
    return client_of(cluster)

"""A control plane in memory with its own clock, and the responder's client for it."""

from __future__ import annotations

import pytest

from tests.apiserver import Cluster
from tests.apiserver.client import InProcess


class Clock:
    """Time that passes only while a caller waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cluster(clock: Clock) -> Cluster:
    return Cluster(clock=clock)


@pytest.fixture
def kube(cluster: Cluster) -> InProcess:
    return InProcess(cluster)

"""A control plane in memory that answers as a real one does (shared/facts/kubernetes-observed.md)."""

from tests.apiserver.cluster import Cluster, Image

__all__ = ["Cluster", "Image"]

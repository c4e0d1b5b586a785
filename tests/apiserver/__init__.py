"""A control plane in memory that answers like a real one of version 1.36.

Not implemented: a scheduler and resources of nodes; a kubelet that takes time, pods that take time to end, probes and
restarts; `Available` conditions and proportional scaling; a delay of EndpointSlices; controllers that fail and retry;
admission webhooks; server-side apply; roles (`forbidden` lists refused requests); versions of custom resources, and
their schemas; a list that expires while it is read; priority and fairness. Types and unknown fields are checked in
workloads only, down to the containers.
"""

from tests.apiserver.cluster import Cluster, Image

__all__ = ["Cluster", "Image"]

"""A control plane in memory that answers like a real one of version 1.36.

`real/` compares it with recorded answers of a real one. `CLUSTER_SEED` draws other lags of its controllers.

Not implemented: a scheduler and resources of nodes; a kubelet that takes time, pods that take time to end, probes and
restarts; proportional scaling; Endpoints, and a delay of EndpointSlices; fields in `managedFields`; controllers that
fail and retry; admission webhooks; server-side apply; roles (`forbidden` lists refused requests); versions of custom
resources, and their schemas; a list that expires while it is read; priority and fairness. Types and unknown fields are
checked in workloads only, down to the containers.
"""

from tests.apiserver.cluster import Cluster, Image

__all__ = ["Cluster", "Image"]

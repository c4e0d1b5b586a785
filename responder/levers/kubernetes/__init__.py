"""Kubernetes: pod templates, how they roll out, replicas, where a Service points, and who else writes to them."""

from responder.levers.kubernetes.gitops import Reconciliation
from responder.levers.kubernetes.rollout import Partition, RolloutPaused, RolloutSettings
from responder.levers.kubernetes.scale import AutoscalerFloor, KeptPods, Replicas
from responder.levers.kubernetes.template import PodTemplate
from responder.levers.kubernetes.traffic import ServiceSelector
from responder.levers.kubernetes.workload import Workload

__all__ = [
    "AutoscalerFloor",
    "KeptPods",
    "Partition",
    "PodTemplate",
    "Reconciliation",
    "Replicas",
    "RolloutPaused",
    "RolloutSettings",
    "ServiceSelector",
    "Workload",
]

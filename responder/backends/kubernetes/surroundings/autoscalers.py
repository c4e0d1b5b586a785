"""What scales a workload: a HorizontalPodAutoscaler, or KEDA with a ScaledObject."""

from __future__ import annotations

import asyncio

from foundation.models import FrozenModel
from responder.backends.kubernetes.api import AccessDenied
from responder.backends.kubernetes.client import Kubernetes
from responder.backends.kubernetes.objects import Object
from responder.backends.kubernetes.workload import SCALERS, Workload

_PAUSED = "autoscaling.keda.sh/paused"
_PAUSED_AT = "autoscaling.keda.sh/paused-replicas"


class ScaledBy(FrozenModel):
    """A ScaledObject of KEDA on a workload."""

    what: str
    paused: bool = False
    paused_at: int | None = None  # KEDA sets this number of replicas again and again

    def stays_at(self, replicas: int) -> bool:
        """Whether KEDA leaves this number of replicas unchanged."""
        return self.paused if self.paused_at is None else self.paused_at == replicas


async def keda(kube: Kubernetes, workload: Workload) -> ScaledBy | None:
    """The ScaledObject of this workload, as far as this account may see it. Raises StepFailed and Unavailable."""
    for found in await _list(kube, "ScaledObject", workload.namespace) or ():
        if not _targets(found, workload):
            continue
        meta = found["metadata"]
        annotations = meta.get("annotations") or {}
        at = str(annotations.get(_PAUSED_AT, ""))
        return ScaledBy(
            what=f"KEDA (ScaledObject {workload.namespace}/{meta['name']})",
            paused=str(annotations.get(_PAUSED, "false")).lower() == "true",
            paused_at=int(at) if at.isdigit() else None,
        )
    return None


async def notes_on_scale(kube: Kubernetes, workload: Workload) -> tuple[str, ...]:
    """What a plan says about the number of pods of a workload. Raises StepFailed and Unavailable."""
    found = await workload.object(kube)
    scalers, unknown = await _scalers(kube, workload)
    notes = []
    if _desired(found) == 0:
        nothing = "no node is selected for it" if workload.daemonset else "it is scaled to 0"
        by = f" ({', '.join(scalers)} can scale it up)" if scalers and not workload.daemonset else ""
        notes.append(f"{workload.what} has no pods, because {nothing}: the good version is not started{by}")
    elif scalers:
        notes.append(f"{', '.join(scalers)} scales {workload.what}: the rollback does not change the replicas")
    if unknown:
        notes.append(f"whether {' or '.join(unknown)} scales {workload.what} is unknown: permission denied")
    return tuple(notes)


async def _scalers(kube: Kubernetes, workload: Workload) -> tuple[list[str], list[str]]:
    """What scales it, and what may but cannot be seen."""
    if workload.daemonset:
        return [], []
    lists = await asyncio.gather(*(_list(kube, kind, workload.namespace) for kind in SCALERS))
    unknown = [f"a {kind}" for kind, found in zip(SCALERS, lists, strict=True) if found is None]
    named = [
        f"{kind} {workload.namespace}/{scaler['metadata']['name']}"
        for kind, found in zip(SCALERS, lists, strict=True)
        for scaler in found or ()
        if _targets(scaler, workload) and not _is_of_keda(scaler)
    ]
    return named, unknown


def _targets(scaler: Object, workload: Workload) -> bool:
    target = scaler.get("spec", {}).get("scaleTargetRef") or {}
    return (target.get("kind") or "Deployment", target.get("name")) == (workload.kind, workload.name)


def _is_of_keda(scaler: Object) -> bool:
    """KEDA makes a HorizontalPodAutoscaler of its ScaledObject."""
    return any(ref.get("kind") == "ScaledObject" for ref in scaler["metadata"].get("ownerReferences") or ())


async def _list(kube: Kubernetes, kind: str, namespace: str) -> list[Object] | None:
    try:
        return await kube.list(kind, namespace)
    except AccessDenied:
        return None


def _desired(workload: Object) -> int:
    if workload["kind"] == "DaemonSet":
        status = workload.get("status", {})
        seen = status.get("observedGeneration", 0) >= workload["metadata"]["generation"]
        return int(status.get("desiredNumberScheduled", 0)) if seen else 1
    return int(workload["spec"].get("replicas", 1))

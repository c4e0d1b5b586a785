"""The number of pods, and pods of a failed version that are kept for study."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from foundation.durations import Duration
from responder.backends.kubernetes.access import Right
from responder.backends.kubernetes.client import Kubernetes
from responder.backends.kubernetes.object_part import PartOfObject
from responder.backends.kubernetes.objects import PREFIX, Name, Object, annotate, is_ready, note, trouble_of
from responder.backends.kubernetes.workload import Workload, labels_of
from responder.errors import StepFailed


class Replicas(Workload[int]):
    """The desired number of replicas."""

    resource: Literal["replicas"] = "replicas"
    autoscaled: bool = Field(
        default=False, description="Set by the responder: an autoscaler also changes it, so more replicas are accepted"
    )
    unready: int = Field(
        default=0, ge=0, description="Set by the responder: replicas of a failed version that need not be ready"
    )
    within: Duration = Field(default=600.0, gt=0, description="Deadline for all replicas to become ready")
    mark: str = Field(default="", description="Set by the responder: the execution, for the annotations")

    @property
    def converge_timeout(self) -> float:
        return self.within

    async def _value(self, kube: Kubernetes, found: Object) -> int:
        return int(found["spec"].get("replicas", 1))

    def same(self, found: int | None, value: int | None) -> bool:
        if self.autoscaled and value and found is not None:
            return found >= value
        return found == value

    def equivalent(self, found: int | None, value: int | None) -> bool:
        # An autoscaler changes it with the load, but never from or to 0.
        return bool(found) == bool(value) if self.autoscaled else found == value

    async def _change(self, kube: Kubernetes, found: Object, present: Any, value: Any) -> list[Object]:
        if not isinstance(value, int) or value < 0:
            raise StepFailed(f"{self} cannot be set to {value!r}")
        change = {"op": "add", "path": "/spec/replicas", "value": value}
        # An autoscaler changes it again, so a note would soon be wrong.
        return [change, *([] if self.autoscaled else note(found, "replicas", self.mark, present, value))]

    async def converged(self, kube: Kubernetes, value: int | None) -> bool:
        found = await self.object(kube)
        status, desired = found.get("status", {}), int(found["spec"].get("replicas", 1))
        if not self.equivalent(desired, value) or not isinstance(value, int):
            return False
        if found["metadata"]["generation"] > status.get("observedGeneration", 0):
            return False
        if value <= self.unready:
            return bool(status.get("replicas", 0) <= value)
        if status.get("readyReplicas", 0) >= min(value, desired):
            return True
        if trouble := next(filter(None, map(trouble_of, await self.pods(kube, found))), ""):
            raise StepFailed(trouble)
        return False

    def rights(self, found: Object) -> tuple[Right, ...]:
        return (*super().rights(found), *self.to_list)

    async def autoscaler(self, kube: Kubernetes) -> Object | None:
        """The HorizontalPodAutoscaler of this workload; with 0 replicas it is inactive."""
        for scaler in await kube.list("HorizontalPodAutoscaler", self.namespace):
            target = scaler["spec"]["scaleTargetRef"]
            if (target["kind"], target["name"]) == (self.kind, self.name):
                return scaler
        return None

    def __str__(self) -> str:
        return f"replicas of {self.what}"


class AutoscalerFloor(PartOfObject[int]):
    """The minimum number of pods of a HorizontalPodAutoscaler.

    A color without traffic has no load, so the autoscaler would remove its pods just before they are needed.
    """

    resource: Literal["autoscaler_floor"] = "autoscaler_floor"
    autoscaler: Name = Field(description="Name of the HorizontalPodAutoscaler")
    mark: str = Field(default="", description="Set by the responder: the execution, for the annotations")

    @property
    def _address(self) -> tuple[str, str]:
        return "HorizontalPodAutoscaler", self.autoscaler

    async def _value(self, kube: Kubernetes, found: Object) -> int:
        return int(found["spec"].get("minReplicas", 1))

    async def _change(self, kube: Kubernetes, found: Object, present: Any, value: Any) -> list[Object]:
        change = {"op": "add", "path": "/spec/minReplicas", "value": value}
        return [change, *note(found, "min-replicas", self.mark, present, value)]

    def __str__(self) -> str:
        return f"minimum replicas of {self.what}"


class KeptPods(Workload[str]):
    """Pods of a failed version that are removed from their ReplicaSet and kept unchanged for study.

    The value is the mark on these pods; it is set on the workload when all of them are out. Nothing restores them.
    """

    resource: Literal["kept_pods"] = "kept_pods"
    count: int = Field(ge=1, le=20, description="Number of pods to keep; fewer if there are fewer")

    def rights(self, found: Object) -> tuple[Right, ...]:
        return (*super().rights(found), *self.to_list, Right("patch", "Pod"))

    async def _value(self, kube: Kubernetes, found: Object) -> Any:
        return (found["metadata"].get("annotations") or {}).get(f"{PREFIX}/kept")

    async def _change(self, kube: Kubernetes, found: Object, present: Any, value: Any) -> list[Object]:
        return annotate(found, kept=str(value))

    async def write(self, kube: Kubernetes, value: str | None, *, expected: str | None) -> None:
        # The pods first: the mark on the workload means that all of them are out.
        found = await self.object(kube)
        self.must_be(await self._value(kube, found), expected, value)
        renamed = _renamed(labels_of(found))
        kept = await kube.list("Pod", self.namespace, {**renamed, f"{PREFIX}/kept": str(value)})
        pods = sorted(await self.pods(kube, found), key=_ready_last)
        for pod in pods[: max(self.count - len(kept), 0)]:
            await kube.patch(pod, _out_of_service(pod, labels_of(found), str(value)))
        await super().write(kube, value, expected=expected)

    def __str__(self) -> str:
        return f"pods kept for study of {self.what}"


def _ready_last(pod: Object) -> tuple[bool, str]:
    # A failing pod is more useful for study than a working one.
    return is_ready(pod), pod["metadata"]["name"]


def _renamed(labels: dict[str, str]) -> dict[str, str]:
    return {f"{PREFIX}/was-{key.replace('/', '.')}": value for key, value in labels.items()}


def _out_of_service(pod: Object, selector: dict[str, str], mark: str) -> list[dict[str, Any]]:
    """Renames the labels that its ReplicaSet and Services select, and keeps their values."""
    labels = pod["metadata"].get("labels", {})
    ours = _renamed({key: value for key, value in labels.items() if key in selector})
    return [
        {"op": "replace", "path": "/metadata/labels", "value": {**ours, f"{PREFIX}/kept": mark}},
        *annotate(pod, labels=",".join(f"{k}={v}" for k, v in sorted(labels.items()))),
    ]

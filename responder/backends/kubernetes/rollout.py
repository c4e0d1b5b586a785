"""Rollout settings: the update strategy, the pause, and the partition of a StatefulSet."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, JsonValue

from foundation.durations import Duration
from responder.backends.kubernetes.access import Right
from responder.backends.kubernetes.client import Kubernetes
from responder.backends.kubernetes.objects import Object, is_ready, trouble_of
from responder.backends.kubernetes.pod_template import PodTemplate
from responder.backends.kubernetes.workload import (
    Workload,
    describe_settings,
    free,
    is_ordered,
    ordinal_of,
    partition_of,
    set_settings,
    settings_of,
)
from responder.errors import Drift, StepFailed


class RolloutSettings(Workload[Any]):
    """The update strategy and `minReadySeconds`. A plan restores the values that it found."""

    resource: Literal["rollout_settings"] = "rollout_settings"
    mark: str = Field(default="", description="Unused. Plans of earlier versions contain it")
    fields: tuple[str, ...] = Field(
        default=(), description="Set by the responder: the fields of the spec, if more than the usual two"
    )

    async def _value(self, kube: Kubernetes, found: Object) -> dict[str, Any]:
        return settings_of(found, self.fields or self.usual_settings)

    async def _change(self, kube: Kubernetes, found: Object, present: Any, value: Any) -> list[Object]:
        return set_settings(value)

    async def preflight(self, kube: Kubernetes, value: Any) -> tuple[str, ...]:
        await kube.patch(await self.object(kube), set_settings(value), dry_run=True)
        return ()

    def describe(self, value: Any) -> str:
        return "none" if value is None else describe_settings(value)

    def __str__(self) -> str:
        return f"rollout settings of {self.what}"


class RolloutPaused(Workload[bool]):
    """Whether the rollout of a Deployment is paused. None leaves it unchanged.

    A paused Deployment does not roll out a new template. So it is resumed after the good template is set. A revert
    pauses it again after the original template is rolled out. These are two changes, both without an inverse.
    """

    resource: Literal["rollout_paused"] = "rollout_paused"
    within: Duration = Field(default=600.0, gt=0, description="Deadline for the rollout after it is resumed")
    brings: JsonValue = Field(
        default=None, description="Set by the responder: the pod template that is rolled out then"
    )

    @property
    def converge_timeout(self) -> float:
        return self.within

    def rights(self, found: Object) -> tuple[Right, ...]:
        return (*super().rights(found), *self.to_list)

    async def _value(self, kube: Kubernetes, found: Object) -> bool:
        return bool(found["spec"].get("paused"))

    def same(self, found: bool | None, value: bool | None) -> bool:
        return value is None or found == value

    async def _change(self, kube: Kubernetes, found: Object, present: Any, value: Any) -> list[Object]:
        template = PodTemplate(**self.where)
        if not value and self.brings and not template.same(now := await template.read(kube), self.brings):
            who = await template.last_modified_by(kube)
            running, expected = template.describe(now), template.describe(self.brings)
            mismatch = f"the {template} is {running}, not {expected}, and would be rolled out"
            raise Drift(f"{mismatch}: changed by {who or 'someone else'}", by=who)
        return [{"op": "add", "path": "/spec/paused", "value": bool(value)}]

    async def converged(self, kube: Kubernetes, value: bool | None) -> bool:
        if value is None:
            return True
        found = await self.object(kube)
        if bool(found["spec"].get("paused")) != value or value:
            return found["spec"].get("paused", False) is value
        template = PodTemplate(**self.where)
        return await template.converged(kube, self.brings or await template.read(kube))

    def describe(self, value: bool | None) -> str:
        return "unchanged" if value is None else "paused" if value else "resumed"

    def __str__(self) -> str:
        return f"pause of {self.what}"


class Partition(Workload[int]):
    """The lowest ordinal of a StatefulSet's pods that is updated. It is lowered batch by batch."""

    resource: Literal["partition"] = "partition"
    within: Duration = Field(default=600.0, gt=0, description="Deadline for one batch")

    @property
    def converge_timeout(self) -> float:
        return self.within

    def rights(self, found: Object) -> tuple[Right, ...]:
        freed = (Right("delete", "Pod"),) if not found or is_ordered(found) else ()
        return (*super().rights(found), Right("list", "Pod"), *freed)

    async def _value(self, kube: Kubernetes, found: Object) -> int:
        return partition_of(found)

    async def _change(self, kube: Kubernetes, found: Object, present: Any, value: Any) -> list[Object]:
        rolling = {**(found["spec"]["updateStrategy"].get("rollingUpdate") or {}), "partition": value}
        return [{"op": "add", "path": "/spec/updateStrategy/rollingUpdate", "value": rolling}]

    async def converged(self, kube: Kubernetes, value: int | None) -> bool:
        """Whether all pods from that ordinal on run the newest revision and are ready."""
        found = await self.object(kube)
        status = found.get("status", {})
        if partition_of(found) != value or found["metadata"]["generation"] > status.get("observedGeneration", 0):
            return False
        newest = status.get("updateRevision", "")
        pods = [pod for pod in await self.pods(kube, found) if ordinal_of(pod) >= partition_of(found)]
        updated = [pod for pod in pods if self.is_of(pod, newest)]
        if trouble := next(filter(None, map(trouble_of, updated)), ""):
            raise StepFailed(trouble)
        expected = int(found["spec"].get("replicas", 1)) - partition_of(found)
        return sum(map(is_ready, updated)) >= expected

    async def assist(self, kube: Kubernetes, value: int | None) -> None:
        found = await self.object(kube)
        status = found.get("status", {})
        current = found["metadata"]["generation"] <= status.get("observedGeneration", 0)
        if current and partition_of(found) == value and is_ordered(found):
            pods = await self.pods(kube, found)
            newest = status.get("updateRevision", "")
            await free(kube, found, pods, [pod for pod in pods if self.is_of(pod, newest)])

    def __str__(self) -> str:
        return f"partition of {self.what}"

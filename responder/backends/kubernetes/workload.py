"""The common base of resources on a Deployment, StatefulSet or DaemonSet."""

from __future__ import annotations

from typing import Any, Generic

from pydantic import Field, model_validator

from foundation.models import exactly_one
from responder.backends.kubernetes.access import Right
from responder.backends.kubernetes.client import Kubernetes
from responder.backends.kubernetes.object_part import PartOfObject
from responder.backends.kubernetes.objects import Name, Object, failure_of, is_ready, owned_by
from responder.backends.resource import V

SCALERS = ("HorizontalPodAutoscaler", "ScaledObject")
"""The kinds that scale a workload; the second belongs to KEDA."""
_KINDS = {"deployment": "Deployment", "statefulset": "StatefulSet", "daemonset": "DaemonSet"}


class Workload(PartOfObject[V], Generic[V]):
    """A resource on a workload; exactly one of the three is named."""

    deployment: Name | None = Field(default=None, description="Name of the Deployment")
    statefulset: Name | None = Field(default=None, description="Name of the StatefulSet")
    daemonset: Name | None = Field(default=None, description="Name of the DaemonSet")

    @model_validator(mode="after")
    def _is_one(self) -> Workload:
        exactly_one(self, *_KINDS)
        return self

    @property
    def where(self) -> dict[str, Any]:
        """The fields that identify the workload, for another resource on it."""
        return {"namespace": self.namespace, exactly_one(self, *_KINDS): self.name}

    @property
    def kind(self) -> str:
        return _KINDS[exactly_one(self, *_KINDS)]

    @property
    def name(self) -> str:
        return str(self.deployment or self.statefulset or self.daemonset)

    @property
    def _address(self) -> tuple[str, str]:
        return self.kind, self.name

    @property
    def usual_settings(self) -> tuple[str, ...]:
        """The fields of its spec that control the rollout."""
        return ("strategy" if self.deployment else "updateStrategy", "minReadySeconds")

    @property
    def to_list(self) -> tuple[Right, ...]:
        """The permissions of `revisions` and `pods`."""
        return Right("list", self._revisions), Right("list", "Pod")

    @property
    def _revisions(self) -> str:
        return "ReplicaSet" if self.deployment else "ControllerRevision"

    async def revisions(self, kube: Kubernetes, found: Object) -> list[Object]:
        """The revisions that the cluster keeps: ReplicaSets or ControllerRevisions."""
        return owned_by(found, await kube.list(self._revisions, self.namespace, labels_of(found)))

    async def pods(self, kube: Kubernetes, found: Object, kept: list[Object] | None = None) -> list[Object]:
        """The pods that the workload owns; others may carry the same labels. `kept`: its revisions, if known."""
        owners = [found]
        if self.deployment:
            owners = await self.revisions(kube, found) if kept is None else kept
        pods = await kube.list("Pod", self.namespace, labels_of(found))
        return [pod for owner in owners for pod in owned_by(owner, pods)]

    def is_of(self, pod: Object, revision: str) -> bool:
        """Whether a pod belongs to that ReplicaSet or ControllerRevision."""
        labels = pod["metadata"].get("labels", {})
        made_from = labels.get("pod-template-hash" if self.deployment else "controller-revision-hash")
        return made_from in (revision, revision.removeprefix(f"{self.name}-"))


def settings_of(workload: Object, fields: tuple[str, ...]) -> dict[str, Any]:
    """These fields of its spec, with the defaults of the API server."""
    defaults = {"minReadySeconds": 0, "progressDeadlineSeconds": 600}
    return {field: workload["spec"].get(field, defaults.get(field, {})) for field in fields}


def set_settings(settings: dict[str, Any]) -> list[Object]:
    """The operations of a JSON patch that set them."""
    return [{"op": "add", "path": f"/spec/{key}", "value": part} for key, part in settings.items()]


def describe_settings(settings: dict[str, Any]) -> str:
    how = settings.get("strategy") or settings.get("updateStrategy") or {}
    parts = [f"{key} {part}" for key, part in (how.get("rollingUpdate") or {"type": how.get("type")}).items()]
    parts += [f"{key} {settings[key]}" for key in ("minReadySeconds", "progressDeadlineSeconds") if settings.get(key)]
    return ", ".join(parts)


async def free(kube: Kubernetes, statefulset: Object, pods: list[Object], updated: list[Object]) -> None:
    """Deletes the pod of another revision for which an ordered StatefulSet would wait forever
    (kubernetes/kubernetes#67250). It waits for the lowest pod that is not ready before it creates a higher one.
    """
    unready = sorted((pod for pod in pods if not is_ready(pod)), key=ordinal_of)
    if unready and unready[0] not in updated and ordinal_of(unready[0]) >= partition_of(statefulset):
        await kube.delete_pod(unready[0])


def rollout_failure(deployment: Object, kept: list[Object], name: str, pods: list[Object]) -> str:
    """Why the rollout of this revision failed; empty if it did not."""
    revision = next((candidate for candidate in kept if candidate["metadata"]["name"] == name), None)
    failed = failure_of(deployment, revision, len(owned_by(revision, pods))) if revision else ""
    # A quota may be exceeded while old pods terminate. It counts only if the number of pods is as specified and no
    # pod is about to be removed.
    leaving = any(len(owned_by(candidate, pods)) > candidate["spec"].get("replicas", 1) for candidate in kept)
    waits = leaving or len(pods) != deployment["spec"].get("replicas", 1)
    return "" if waits and failed.startswith("no pod") and "exceeded quota" in failed else failed


def is_ordered(statefulset: Object) -> bool:
    return str(statefulset["spec"].get("podManagementPolicy", "OrderedReady")) == "OrderedReady"


def is_on_delete(workload: Object) -> bool:
    return bool(workload["spec"].get("updateStrategy", {}).get("type") == "OnDelete")


def labels_of(workload: Object) -> dict[str, str]:
    return dict(workload["spec"]["selector"].get("matchLabels", {}))


def ordinal_of(pod: Object) -> int:
    """The number of a StatefulSet's pod."""
    return int(pod["metadata"]["name"].rpartition("-")[2])


def partition_of(statefulset: Object) -> int:
    """Pods with a lower ordinal keep their revision."""
    return int((statefulset["spec"].get("updateStrategy", {}).get("rollingUpdate") or {}).get("partition") or 0)

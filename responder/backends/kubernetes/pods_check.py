"""A check that the pods of a service are ready."""

from __future__ import annotations

from pydantic import Field, model_validator

from foundation.models import StrictModel
from responder.backends.check import Check, Finding
from responder.backends.kubernetes.access import Right, missing_rights
from responder.backends.kubernetes.client import Kubernetes
from responder.backends.kubernetes.objects import Name, is_ready, other_image, trouble_of
from responder.backends.problems import Problem


class Pods(StrictModel):
    """The pods of a check and how many must be ready."""

    namespace: Name = Field(description="Namespace of the pods")
    labels: dict[str, str] = Field(min_length=1, description="Labels of the pods")
    at_least: int = Field(default=1, ge=0, description="Number of pods that must be ready")
    container: str = Field(default="", description="Container that `digest` refers to")
    digest: str = Field(
        default="",
        pattern="^(sha256:[0-9a-f]{64})?$",
        description="Image digest that the container must run",
    )

    @model_validator(mode="after")
    def _names_the_container(self) -> Pods:
        if bool(self.container) != bool(self.digest):
            raise ValueError("container and digest must be set together")
        return self


class PodsCheck(Check[Kubernetes]):
    """Enough pods are ready, and none is in a state that waiting does not resolve."""

    pods: Pods = Field(description="Pods that must be ready")

    async def check_access(self, kube: Kubernetes) -> list[Problem]:
        found = await missing_rights(kube, self.pods.namespace, [Right("list", "Pod")])
        if not found and not await kube.list("Pod", self.pods.namespace, self.pods.labels):
            labels = ", ".join(f"{k}={v}" for k, v in self.pods.labels.items())
            found.append(Problem(f"namespace {self.pods.namespace}", f"has no pod with {labels}", "correct the labels"))
        return found

    async def holds(self, kube: Kubernetes) -> Finding:
        found = await kube.list("Pod", self.pods.namespace, self.pods.labels)
        if trouble := next(filter(None, map(trouble_of, found)), ""):
            return Finding(holds=False, reason=trouble)
        ready = [pod for pod in found if is_ready(pod)]
        container, digest = self.pods.container, self.pods.digest
        if digest and (other := next(filter(None, (other_image(pod, container, digest) for pod in ready)), "")):
            return Finding(holds=False, reason=other)
        labels = ", ".join(f"{k}={v}" for k, v in self.pods.labels.items())
        counts = f"{len(ready)} of {len(found)} pods with {labels} are ready"
        return Finding(holds=len(ready) >= self.pods.at_least, reason=f"{counts}, expected {self.pods.at_least}")

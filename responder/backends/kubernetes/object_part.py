"""The base of resources in a cluster: a part of one object, set by a patch of the version that was read."""

from __future__ import annotations

from abc import abstractmethod
from typing import Generic

from pydantic import Field

from responder.backends.kubernetes.access import Right, missing_rights
from responder.backends.kubernetes.api import AccessDenied
from responder.backends.kubernetes.client import Kubernetes
from responder.backends.kubernetes.objects import Name, Object, annotate
from responder.backends.problems import Problem
from responder.backends.resource import Resource, V
from responder.errors import StepFailed


class PartOfObject(Resource[Kubernetes, V | None], Generic[V]):
    """A value in one object. A subclass defines the object, the value in it, and the patch that changes it."""

    namespace: Name = Field(description="Namespace of the object")

    @property
    @abstractmethod
    def _address(self) -> tuple[str, str]:
        """Kind and name of the object."""

    @abstractmethod
    async def _value(self, kube: Kubernetes, found: Object) -> V | None:
        """The value in the object that was read."""

    @abstractmethod
    async def _change(self, kube: Kubernetes, found: Object, present: V | None, value: V | None) -> list[Object]:
        """The JSON patch operations that set the value. Raises StepFailed if it cannot be set."""

    @property
    def what(self) -> str:
        kind, name = self._address
        return f"{kind} {self.namespace}/{name}"

    async def object(self, kube: Kubernetes) -> Object:
        """The current object. Raises StepFailed if it does not exist or is being deleted."""
        kind, name = self._address
        found = await kube.get(kind, self.namespace, name)
        if found is None:
            raise StepFailed(f"{self.what} does not exist")
        if found["metadata"].get("deletionTimestamp"):
            raise StepFailed(f"{self.what} is being deleted")
        return found

    async def need_rights(self, kube: Kubernetes, found: Object) -> None:
        """Raises StepFailed if this account lacks a permission."""
        if problems := await missing_rights(kube, self.namespace, self.rights(found)):
            raise StepFailed("; ".join(problem.found for problem in problems))

    async def preflight(self, kube: Kubernetes, value: V | None) -> tuple[str, ...]:
        await self.need_rights(kube, await self.object(kube))
        return ()

    def rights(self, found: Object) -> tuple[Right, ...]:
        """The permissions that a plan and its execution use. `found`: the object, empty if it is unknown."""
        kind, name = self._address
        return Right("get", kind, name), Right("patch", kind, name)

    async def check_access(self, kube: Kubernetes) -> list[Problem]:
        missing: list[Problem] = []
        try:
            found = await self.object(kube)
            missing = await missing_rights(kube, self.namespace, self.rights(found))
            problems = [*missing, *await self._obstacles(kube, found)]
            return problems if missing else [*problems, *await self._refused_patch(kube, found)]
        except AccessDenied as denied:
            missing = missing or await missing_rights(kube, self.namespace, self.rights({}))
            return missing or [Problem(self.what, str(denied))]

    async def _obstacles(self, kube: Kubernetes, found: Object) -> list[Problem]:
        """What else would make a plan fail now. Raises StepFailed and Unavailable."""
        await self._value(kube, found)
        return []

    async def _refused_patch(self, kube: Kubernetes, found: Object) -> list[Problem]:
        try:  # admission webhooks can refuse as well
            await kube.patch(found, annotate(found, execution="check"), dry_run=True)
        except AccessDenied:
            raise
        except StepFailed as failure:
            fix = "allow the responder's account in the webhook or policy that refuses it"
            return [Problem(self.what, f"refuses a patch: {failure}", fix)]
        return []

    async def read(self, kube: Kubernetes) -> V | None:
        kind, name = self._address
        found = await kube.get(kind, self.namespace, name)
        return None if found is None else await self._value(kube, found)

    async def write(self, kube: Kubernetes, value: V | None, *, expected: V | None) -> None:
        found = await self.object(kube)
        present = await self._value(kube, found)
        self.must_be(present, expected, value)
        if not self.same(present, value):
            await kube.patch(found, await self._change(kube, found, present, value))

"""What every resource in a cluster is: a part of one object, read from it, and set by a patch of that version of it."""

from __future__ import annotations

from abc import abstractmethod
from typing import Generic

from pydantic import Field

from responder.backends.kubernetes.access import Right, missing_rights
from responder.backends.kubernetes.client import Kubernetes
from responder.backends.kubernetes.objects import Name, Object, annotate
from responder.backends.problems import Problem
from responder.backends.resource import Resource, V
from responder.errors import StepFailed


class PartOfObject(Resource[Kubernetes, V | None], Generic[V]):
    """Says which object, what its value is in there, and which operations change it."""

    namespace: Name = Field(description="Its namespace")

    @property
    @abstractmethod
    def _address(self) -> tuple[str, str]:
        """Kind and name of the object."""

    @abstractmethod
    async def _value(self, kube: Kubernetes, found: Object) -> V | None:
        """The resource's value in the object as it was found."""

    @abstractmethod
    async def _change(self, kube: Kubernetes, found: Object, present: V | None, value: V | None) -> list[Object]:
        """The operations of a JSON patch that set it. Raises Halt where it cannot be set to that."""

    @property
    def what(self) -> str:
        kind, name = self._address
        return f"{kind} {self.namespace}/{name}"

    async def object(self, kube: Kubernetes) -> Object:
        """The object now. Raises Halt where it is not there, or on its way out."""
        kind, name = self._address
        found = await kube.get(kind, self.namespace, name)
        if found is None:
            raise StepFailed(f"there is no {self.what}")
        if found["metadata"].get("deletionTimestamp"):
            raise StepFailed(f"{self.what} is being deleted")
        return found

    async def need_rights(self, kube: Kubernetes) -> None:
        """Raises Halt where our account lacks one."""
        if problems := await missing_rights(kube, self.namespace, self.rights):
            raise StepFailed("; ".join(problem.found for problem in problems))

    async def preflight(self, kube: Kubernetes, value: V | None) -> tuple[str, ...]:
        await self.object(kube)
        await self.need_rights(kube)
        return ()

    @property
    def rights(self) -> tuple[Right, ...]:
        """What a plan and its execution do with the object and what belongs to it, as (verb, kind)."""
        kind, _ = self._address
        return ("get", kind), ("patch", kind)

    async def check_access(self, kube: Kubernetes) -> list[Problem]:
        problems = await missing_rights(kube, self.namespace, self.rights)
        found = await self.object(kube)
        await self._value(kube, found)
        if not problems:
            try:  # admission webhooks have their say as well
                await kube.patch(found, annotate(found, execution="check"), dry_run=True)
            except StepFailed as failure:
                problems.append(
                    Problem(self.what, f"refuses a patch: {failure}", "let what refuses it allow our account")
                )
        return problems

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

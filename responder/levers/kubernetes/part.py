"""What every lever in a cluster is: a part of one object, read from it, and set by a patch of that version of it."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import Any, ClassVar

from pydantic import Field, JsonValue

from responder.clients.kubernetes import Kubernetes
from responder.errors import Halt
from responder.kubernetes_objects import Name, Object
from responder.levers.lever import Lever


class PartOfObject(Lever, ABC):
    """Says which object, what its value is in there, and which operations change it."""

    client: ClassVar[type] = Kubernetes

    namespace: Name = Field(description="Its namespace")

    @property
    @abstractmethod
    def _address(self) -> tuple[str, str]:
        """Kind and name of the object."""

    @abstractmethod
    async def _value(self, kube: Kubernetes, found: Object) -> Any:
        """The lever's value in the object as it was found."""

    @abstractmethod
    async def _change(self, kube: Kubernetes, found: Object, present: Any, value: Any) -> list[Object]:
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
            raise Halt(f"there is no {self.what}")
        if found["metadata"].get("deletionTimestamp"):
            raise Halt(f"{self.what} is being deleted")
        return found

    @property
    def _rights(self) -> tuple[tuple[str, str], ...]:
        """The verbs and kinds that our account needs for it."""
        return (("patch", self._address[0]),)

    async def need_rights(self, kube: Kubernetes) -> None:
        """Raises Halt where our account lacks one."""
        allowed = await asyncio.gather(*(kube.may(verb, kind, self.namespace) for verb, kind in self._rights))
        missing = [f"{verb} {kind}s" for (verb, kind), may in zip(self._rights, allowed, strict=True) if not may]
        if missing:
            raise Halt(f"our account may not {', '.join(missing)} in {self.namespace}")

    async def prepare(self, kube: Kubernetes, value: JsonValue) -> tuple[str, ...]:
        await self.object(kube)
        await self.need_rights(kube)
        return ()

    async def rehearse(self, kube: Kubernetes) -> None:
        """Asks what a plan asks of it: the object, its value and our rights."""
        await self._value(kube, await self.object(kube))
        await self.need_rights(kube)

    async def read(self, kube: Kubernetes) -> JsonValue:
        kind, name = self._address
        found = await kube.get(kind, self.namespace, name)
        value: JsonValue = None if found is None else await self._value(kube, found)
        return value

    async def write(self, kube: Kubernetes, value: JsonValue, *, was: JsonValue) -> None:
        found = await self.object(kube)
        present = await self._value(kube, found)
        self.must_be(present, was, value)
        if not self.same(present, value):
            await kube.patch(found, await self._change(kube, found, present, value))

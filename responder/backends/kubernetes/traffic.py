"""The traffic of a Service."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from responder.backends.kubernetes.access import Right
from responder.backends.kubernetes.client import Kubernetes
from responder.backends.kubernetes.object_part import PartOfObject
from responder.backends.kubernetes.objects import Name, Object, escape, is_ready, note, writer_of
from responder.backends.problems import Problem


class ServiceSelector(PartOfObject[str]):
    """One label in the selector of a Service: the color that receives the traffic."""

    resource: Literal["service_selector"] = "service_selector"
    service: Name = Field(description="Name of the Service")
    key: str = Field(default="color", min_length=1, description="Label whose value is the color")
    mark: str = Field(default="", description="Set by the responder: the execution, for the annotations")

    @property
    def _address(self) -> tuple[str, str]:
        return "Service", self.service

    async def _value(self, kube: Kubernetes, found: Object) -> Any:
        return (found["spec"].get("selector") or {}).get(self.key)

    async def _change(self, kube: Kubernetes, found: Object, present: Any, value: Any) -> list[Object]:
        change = {"op": "replace", "path": f"/spec/selector/{escape(self.key)}", "value": value}
        return [change, *note(found, "selector", self.mark, present, value)]

    def rights(self, found: Object) -> tuple[Right, ...]:
        return (*super().rights(found), Right("list", "Service"), Right("list", "Pod"), Right("list", "EndpointSlice"))

    async def _obstacles(self, kube: Kubernetes, found: Object) -> list[Problem]:
        if await self._value(kube, found) is None:
            fix = f"select the live color by {self.key}, or correct pointer.key"
            return [Problem(self.what, f"its selector has no label {self.key}", fix)]
        return await super()._obstacles(kube, found)

    async def converged(self, kube: Kubernetes, value: str | None) -> bool:
        """Whether the endpoints are exactly the ready selected pods, at least one."""
        if await self.read(kube) != value:
            return False
        selected = {p["metadata"]["name"] for p in await self.selected(kube, str(value)) if is_ready(p)}
        slices = await kube.list("EndpointSlice", self.namespace, {"kubernetes.io/service-name": self.service})
        ready = {
            endpoint["targetRef"]["name"]
            for part in slices
            for endpoint in part.get("endpoints") or ()
            if endpoint.get("conditions", {}).get("ready") and endpoint.get("targetRef")
        }
        return bool(selected) and ready == selected

    async def selected(self, kube: Kubernetes, value: str) -> list[Object]:
        """The pods that the Service selects with this value."""
        found = await self.object(kube)
        return await kube.list("Pod", self.namespace, {**(found["spec"].get("selector") or {}), self.key: value})

    async def last_modified_by(self, kube: Kubernetes) -> str:
        return writer_of(await self.object(kube), "spec", "selector")

    def __str__(self) -> str:
        return f"selector {self.key} of Service {self.namespace}/{self.service}"

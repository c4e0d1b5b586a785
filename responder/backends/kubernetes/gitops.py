"""Other writers of a workload, and how to suspend each as narrowly as possible."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, ValidationError

from foundation.models import FrozenModel
from responder.backends.kubernetes.access import Right
from responder.backends.kubernetes.api import AccessDenied
from responder.backends.kubernetes.client import Kubernetes
from responder.backends.kubernetes.object_part import PartOfObject
from responder.backends.kubernetes.objects import Name, Object, set_annotations, writer_of
from responder.backends.kubernetes.workload import Workload
from responder.errors import StepFailed

_FLUX = "kustomize.toolkit.fluxcd.io"
_HELM = "helm.toolkit.fluxcd.io"
_RECONCILE = f"{_FLUX}/reconcile"


class Reconciliation(PartOfObject[str]):
    """Whether Argo CD or Flux reconciles with Git: `on` by default, `on, explicitly` or `off`.

    A rollback leaves it `off`.
    """

    resource: Literal["reconciliation"] = "reconciliation"
    kind: Literal["Application", "HelmRelease", "Deployment", "StatefulSet", "DaemonSet"] = Field(
        description="Kind of the object that controls the reconciliation"
    )
    name: Name = Field(description="Name of the object")

    @property
    def _address(self) -> tuple[str, str]:
        return self.kind, self.name

    async def _value(self, kube: Kubernetes, found: Object) -> str:
        spec = found["spec"]
        match self.kind:
            case "Application":
                automated = (spec.get("syncPolicy") or {}).get("automated")
                return "off" if automated is None else _switch(automated.get("enabled"), off=False)
            case "HelmRelease":
                return _switch(spec.get("suspend"), off=True)
        return _switch((found["metadata"].get("annotations") or {}).get(_RECONCILE), off="disabled")

    def same(self, found: str | None, value: str | None) -> bool:
        if found is None or value is None:
            return found is value
        return (found == "off") == (value == "off")

    async def write(self, kube: Kubernetes, value: str | None, *, expected: str | None) -> None:
        await super().write(kube, value, expected=expected)
        if not self.same(present := await self.read(kube), value):
            raise StepFailed(f"{self} stays {present}: its version does not support suspension")

    async def _change(self, kube: Kubernetes, found: Object, present: Any, value: Any) -> list[Object]:
        off, default = value == "off", value == "on"
        match self.kind:
            case "Application":
                path, switch = "/spec/syncPolicy/automated/enabled", not off
            case "HelmRelease":
                path, switch = "/spec/suspend", off
            case _:
                text = "disabled" if off else "enabled"
                return set_annotations(found, {_RECONCILE: None if default else text})
        return [{"op": "remove", "path": path} if default else {"op": "add", "path": path, "value": switch}]

    async def last_modified_by(self, kube: Kubernetes) -> str:
        return writer_of(await self.object(kube), "spec")

    def __str__(self) -> str:
        return f"reconciliation by {self.what}"


def _switch(found: Any, *, off: Any) -> str:
    """The value of a switch that is on by default."""
    return "on" if found is None else "off" if found == off else "on, explicitly"


class Owner(FrozenModel):
    """A system that would restore the bad version, how to suspend it, and what to fix by hand."""

    who: str
    mend: str
    suspend: Reconciliation | None = None
    fights: bool = False  # it cannot be suspended
    unseen: str = ""  # the missing permission, if whether it exists is unknown


_ARGOCD = "argocd"
"""The usual namespace of Argo CD. Only the tracking ID of an application elsewhere contains its namespace."""


async def owners_of(kube: Kubernetes, workload: Workload) -> list[Owner]:
    """Everything that manages this workload, except people with kubectl."""
    found = await workload.object(kube)
    return [
        *_controllers(found),
        *await _progressive_delivery(kube, workload),
        *await _gitops(kube, workload, found["metadata"]),
    ]


def _controllers(found: Object) -> Iterator[Owner]:
    for ref in found["metadata"].get("ownerReferences", ()):
        if ref["kind"] in ("Rollout", "Canary"):
            who = "Argo Rollouts" if ref["kind"] == "Rollout" else "Flagger"
            yield Owner(who=f"{who} ({ref['kind']} {ref['name']})", mend=f"abort {ref['name']} there", fights=True)
        elif ref.get("controller"):
            controller = f"{ref['kind']} {ref['name']}"
            yield Owner(who=controller, mend=f"roll back {controller} with the tool that manages it", fights=True)


async def _progressive_delivery(kube: Kubernetes, workload: Workload) -> list[Owner]:
    canaries, rollouts = await asyncio.gather(
        _list(kube, "Canary", workload.namespace), _list(kube, "Rollout", workload.namespace)
    )
    owners = [
        Owner(who=f"a {kind} that refers to {workload.what}", mend="", unseen=_denied("list", kind, workload.namespace))
        for kind, found in (("Canary", canaries), ("Rollout", rollouts))
        if found is None
    ]
    owners += [
        Owner(who=f"Argo Rollouts (Rollout {name})", mend=f"abort {name} there", fights=True)
        for name in _referring(rollouts, "workloadRef", workload)
    ]
    owners += [
        Owner(who=f"Flagger (Canary {name})", mend=f"roll back {name} with Flagger", fights=True)
        for name in _referring(canaries, "targetRef", workload)
    ]
    return owners


def _referring(found: list[Object] | None, key: str, workload: Workload) -> Iterator[str]:
    """The names of the objects that refer to the workload."""
    for item in found or ():
        reference = item["spec"].get(key) or {}
        if (reference.get("kind"), reference.get("name")) == (workload.kind, workload.name):
            yield item["metadata"]["name"]


async def _gitops(kube: Kubernetes, workload: Workload, meta: Object) -> list[Owner]:
    labels, annotations = meta.get("labels") or {}, meta.get("annotations") or {}
    owners: list[Owner] = []
    if tracked := annotations.get("argocd.argoproj.io/tracking-id") or labels.get("argocd.argoproj.io/instance"):
        application = tracked.partition(":")[0]
        home, _, name = application.rpartition("_")
        resource = _resource("Application", home or _ARGOCD, name)
        owners.append(_by_git(f"Argo CD (application {name})", name, resource))
    elif name := labels.get("app.kubernetes.io/instance"):
        owners += await _by_instance(kube, workload, name)
    if name := labels.get(f"{_FLUX}/name"):
        resource = _resource(workload.kind, workload.namespace, workload.name)
        owners.append(_by_git(f"Flux (Kustomization {name})", name, resource))
    if name := labels.get(f"{_HELM}/name"):
        home = labels.get(f"{_HELM}/namespace", workload.namespace)
        owners.append(_by_git(f"Flux (HelmRelease {name})", name, _resource("HelmRelease", home, name)))
    elif name := annotations.get("meta.helm.sh/release-name"):
        owners.append(
            Owner(who=f"Helm (release {name})", mend=f"run `helm rollback {name}`, or the next upgrade undoes it")
        )
    return owners


def _resource(kind: str, namespace: str, name: str) -> Reconciliation | None:
    """None if a label contains an invalid name: people write labels too."""
    try:
        return Reconciliation.model_validate({"kind": kind, "namespace": namespace, "name": name})
    except ValidationError:
        return None


def _by_git(who: str, name: str, suspend: Reconciliation | None) -> Owner:
    return Owner(who=who, mend=f"fix {name} in Git", suspend=suspend, fights=suspend is None)


async def _by_instance(kube: Kubernetes, workload: Workload, name: str) -> list[Owner]:
    """Argo CD before 3.0 tracks by this label, but plain Helm charts write it as well."""
    who, resource = f"Argo CD (application {name})", _resource("Application", _ARGOCD, name)
    if resource is None:
        return []
    try:
        application = await kube.get("Application", _ARGOCD, name)
    except AccessDenied:
        return [Owner(who=who, mend="", unseen=_denied("get", "Application", _ARGOCD, name))]
    where = application["spec"].get("destination", {}).get("namespace") if application else ""
    return [_by_git(who, name, resource)] if application and where in (None, "", workload.namespace) else []


def _denied(verb: str, kind: str, namespace: str, name: str = "") -> str:
    return f"{Right(verb, kind, name)} in {namespace}"


async def _list(kube: Kubernetes, kind: str, namespace: str) -> list[Object] | None:
    try:
        return await kube.list(kind, namespace)
    except AccessDenied:  # without this permission, only the labels of the workload are known
        return None

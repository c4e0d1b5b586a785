"""Requests that create Deployments, most of them invalid."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tests.apiserver.manifests import deployment
from tests.apiserver.real.request import APPS, Object, ask


def _changed(change: Callable[[Object], Any], name: str = "odd") -> Object:
    manifest = deployment(name, "shop:1", 2)
    change(manifest)
    return manifest


_REFUSED: dict[str, Callable[[Object], Any]] = {
    "a wrong type": lambda m: m["spec"].update(replicas="many"),
    "a wrong type of a list": lambda m: m["spec"]["template"]["spec"].update(containers={}),
    "a wrong type in a container": lambda m: m["spec"]["template"]["spec"]["containers"][0].update(image=1),
    "no selector": lambda m: m["spec"].pop("selector"),
    "no template": lambda m: m["spec"].pop("template"),
    "no spec": lambda m: m.pop("spec"),
    "a selector of other pods": lambda m: m["spec"]["selector"].update(matchLabels={"app": "other"}),
    "no containers": lambda m: m["spec"]["template"]["spec"].pop("containers"),
    "an empty list of containers": lambda m: m["spec"]["template"]["spec"].update(containers=[]),
    "a container without image": lambda m: m["spec"]["template"]["spec"]["containers"][0].pop("image"),
    "a container without name": lambda m: m["spec"]["template"]["spec"]["containers"][0].pop("name"),
    "no name": lambda m: m["metadata"].pop("name"),
    "an invalid name": lambda m: m["metadata"].update(name="Backend_1"),
    "another namespace": lambda m: m["metadata"].update(namespace="elsewhere"),
    "another kind": lambda m: m.update(kind="StatefulSet"),
    "negative replicas": lambda m: m["spec"].update(replicas=-1),
    "neither surge nor unavailable": lambda m: m["spec"].update(
        strategy={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}
    ),
    "settings of another strategy": lambda m: m["spec"].update(
        strategy={"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}
    ),
    "a percentage over 100": lambda m: m["spec"].update(strategy={"rollingUpdate": {"maxUnavailable": "101%"}}),
    "a deadline below the readiness": lambda m: m["spec"].update(minReadySeconds=20, progressDeadlineSeconds=20),
    "another restart policy": lambda m: m["spec"]["template"]["spec"].update(restartPolicy="Never"),
}


def creations() -> Iterator[Object]:
    for name, change in _REFUSED.items():
        yield ask(f"create: {name}", "POST", f"{APPS}/deployments", _changed(change))
    unknown = _changed(lambda m: m["spec"].update(replicos=3))
    yield ask("create: strict", "POST", f"{APPS}/deployments", unknown, fieldValidation="Strict")
    deeper = _changed(lambda m: m["spec"]["template"]["spec"]["containers"][0].update(imag="x"))
    yield ask("create: strict, in a container", "POST", f"{APPS}/deployments", deeper, fieldValidation="Strict")
    yield ask("create: unknown field, dry run", "POST", f"{APPS}/deployments", unknown, dryRun="All")
    yield ask("create", "POST", f"{APPS}/deployments", deployment("backend", "shop:1", 2))
    yield ask("create again", "POST", f"{APPS}/deployments", deployment("backend", "shop:1", 2))

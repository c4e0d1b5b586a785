"""The storage of the API server: objects, their versions and events, and the run of the controllers."""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from tests.apiserver.controllers import loop
from tests.apiserver.kinds import BUILT_IN, KINDS, RESOURCES
from tests.apiserver.patches import copy
from tests.apiserver.validation import HIDDEN, WORKLOADS

if TYPE_CHECKING:
    from tests.apiserver.cluster import Cluster

Object = dict[str, Any]
Key = tuple[str, str]  # namespace, name

SEED = int(os.environ.get("CLUSTER_SEED", "0"))
"""Of the lags; another one runs the same tests in another order of events."""
EPOCH = datetime(2026, 11, 24, tzinfo=UTC)
"""The time at 0 of a cluster's clock."""
COUNTED = (*WORKLOADS, "ReplicaSet", "Pod", "EndpointSlice")
"""Built-in kinds with a `generation`."""
OLDEST = 1000
"""The oldest version that a watch can start from."""


@dataclass(frozen=True)
class Image:
    """The behavior of an image's containers."""

    digest: str = ""
    starts: str = "ready"  # ready, pull_fails, crashes, never_ready
    ready_after: float = 0.0


@cache
def _digest(reference: str) -> str:
    return reference.partition("@")[2] or f"sha256:{hashlib.sha256(reference.encode()).hexdigest()}"


class Store:
    """Objects by kind, namespace and name, and the controllers that change them."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, token: str = "", seed: int = SEED) -> None:
        self.clock, self.token = clock, token
        self._random = random.Random(seed)  # of the controllers' lags
        self.lags = True
        self.noticed: dict[str, Any] = {}  # by UID: the state that its controller has seen
        self.due: dict[str, float] = {}  # by UID: when its controller sees the new state
        self.objects: dict[str, dict[Key, Object]] = {resource: {} for resource in KINDS}  # by group/plural
        self.images: dict[str, Image] = {}
        self.logs: dict[tuple[str, str, str], list[tuple[str, str]]] = {}  # namespace, pod, container: time and line
        self.previous_logs: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
        self.requests: list[tuple[str, str]] = []
        self.history: list[tuple[int, str, Object]] | None = None  # version and event; kept while it is served
        self.user = "system:serviceaccount:shop:responder"
        self.forbidden: set[tuple[str, str]] = set()
        self.installed: set[str] = set()  # API groups of custom resources; storing an object installs its group
        self.controllers = True  # False: they lag
        self.quota: int | None = None  # maximum number of pods in a namespace
        self.version = OLDEST
        self._uid = 0
        self._at_rest: tuple[Any, ...] = ()  # the input of the controllers when they were last idle
        self.manager = "tests"  # the field manager of writes
        self.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}})

    def all(self, kind: str, namespace: str | None = None) -> list[Object]:
        found = self.objects[RESOURCES[kind]]
        return [
            item for (object_namespace, _), item in found.items() if namespace is None or object_namespace == namespace
        ]

    def get(self, kind: str, namespace: str, name: str) -> Object:
        return self.objects[RESOURCES[kind]][namespace, name]

    def put(self, manifest: Object, *, before: Object | None = None) -> Object:
        """Stores a new object or a new state with its own version, without a copy."""
        kind, meta = manifest["kind"], manifest["metadata"]
        if before is None:
            self._uid += 1
            meta.setdefault("uid", f"uid-{self._uid}")
            meta.setdefault("creationTimestamp", self.stamp())
            if kind in COUNTED or RESOURCES[kind].rpartition("/")[0] not in BUILT_IN:
                meta["generation"] = 1
        elif "generation" not in before["metadata"]:
            pass
        elif manifest.get("spec") != before.get("spec") and kind != "Pod":  # a binding does not count
            meta["generation"] = before["metadata"].get("generation", 1) + 1
        self.version += 1
        meta["resourceVersion"] = str(self.version)
        self.installed.add(RESOURCES[kind].rpartition("/")[0])
        self.objects[RESOURCES[kind]][meta.get("namespace", ""), meta["name"]] = manifest
        self._remember("ADDED" if before is None else "MODIFIED", manifest)
        return manifest

    def _remember(self, how: str, found: Object) -> None:
        if self.history is not None:
            self.history.append((self.version, how, shown(found)))

    def drop(self, found: Object) -> None:
        """Deletes an object and then the objects that it owns."""
        meta = found["metadata"]
        self.version += 1
        self.objects[RESOURCES[found["kind"]]].pop((meta.get("namespace", ""), meta["name"]), None)
        self._remember("DELETED", {**found, "metadata": {**meta, "resourceVersion": str(self.version)}})
        for dependent in [dependent for kind in self.objects.values() for dependent in kind.values()]:
            if any(ref["uid"] == meta["uid"] for ref in dependent["metadata"].get("ownerReferences", ())):
                self.drop(dependent)

    def step(self) -> None:
        """Runs controllers and kubelet until they are idle, as after some seconds without requests."""
        self.lags, before = False, self.lags
        try:
            self.catch_up()
        finally:
            self.lags = before
            self.noticed.clear()

    def catch_up(self) -> None:
        # Idle controllers do nothing until an object, an image or the time changes: most requests only read.
        if self.controllers and self._at_rest != (self.version, *(seen := self._seen())):
            loop.run(cast("Cluster", self))
            self._at_rest = self.version, *seen

    def _seen(self) -> tuple[Any, ...]:
        return self.clock(), self.lags, self.quota, dict(self.images)

    def draw(self, least: float, most: float) -> float:
        return self._random.uniform(least, most)

    def stamp(self) -> str:
        """The time now, in whole seconds."""
        return f"{EPOCH + timedelta(seconds=int(self.clock())):%Y-%m-%dT%H:%M:%SZ}"

    def image(self, reference: str) -> Image:
        found = self.images.get(reference) or Image()
        return found if found.digest else replace(found, digest=_digest(reference))


def shown(answer: Object) -> Object:
    """A copy without the internal fields of the stand-in."""
    answer = copy(answer)
    for item in (answer, *answer.get("items", ())):
        for key in HIDDEN:
            item.pop(key, None)
    return answer

"""`check --live` queries exactly the permissions that plans and their executions use, with the names of objects."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from responder.backends.kubernetes.client import Kubernetes
from responder.backends.problems import Problem
from responder.cli.checking.live import targets_of
from responder.errors import StepFailed
from tests.apiserver import Cluster, Image
from tests.apiserver.client import InProcess, client_of
from tests.apiserver.kinds import BUILT_IN
from tests.apiserver.manifests import autoscaler, deployment, service, statefulset, workload
from tests.apiserver.real.account import rights_of as rights_in
from tests.apiserver.real.account import shipped
from tests.responder.harness import Rollback

Right = tuple[str, str]


class Recording(InProcess):
    """Records the permissions that are queried, and those that the other requests use."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        self.queried: dict[Right, set[str]] = {}  # with the names of objects
        self.used: dict[Right, set[str]] = {}

    async def _send(self, method: str, path: str, query: Any, body: Any, content_type: str) -> Any:
        if path.endswith("/selfsubjectaccessreviews"):
            queried = body["spec"]["resourceAttributes"]
            resource = f"{queried['group']}/{queried['resource']}".lstrip("/")
            self.queried.setdefault((queried["verb"], resource), set()).add(queried.get("name", ""))
            return await super()._send(method, path, query, body, content_type)
        before = len(self.cluster.requests)
        answer = await super()._send(method, path, query, body, content_type)
        for right in self.cluster.requests[before:]:
            name = "" if right[0] == "list" else path.rstrip("/").rpartition("/")[2]
            self.used.setdefault(right, set()).add(name)
        return answer


Build = Callable[[Cluster], Any]


@dataclass(frozen=True)
class Case:
    """A strategy, the cluster, and what the cluster does in each of its rollbacks."""

    rollback: dict[str, Any]
    build: Build
    ways: tuple[Build, ...] = (lambda cluster: None,)
    app: str = "backend"
    outcomes: tuple[str, ...] = field(default=("succeeded", "reverted"))


def fails(cluster: Cluster) -> None:
    cluster.images["shop:1"] = Image(starts="crashes")


def crashes(cluster: Cluster) -> None:
    cluster.images["shop:2"] = Image(starts="crashes")
    cluster.step()


def replaced(cluster: Cluster) -> None:
    """Pods of the newest revision: with OnDelete, somebody has deleted the others."""
    for pod in cluster.all("Pod"):
        cluster.drop(pod)
    cluster.step()


def replaced_and_fails(cluster: Cluster) -> None:
    replaced(cluster)
    fails(cluster)


def replaced_and_crashes(cluster: Cluster) -> None:
    replaced(cluster)
    crashes(cluster)


def swapped(cluster: Cluster) -> None:
    """The other color is live, with more pods."""
    found = cluster.get("Service", "shop", "shop")
    selector = {"app": "backend", "color": "blue"}
    cluster.put({**found, "spec": {**found["spec"], "selector": selector}}, before=found)
    found = cluster.get("Deployment", "shop", "shop-blue")
    cluster.put({**found, "spec": {**found["spec"], "replicas": 5}}, before=found)
    cluster.step()


def put_out(make: Callable[..., Any], name: str = "backend", **more: Any) -> Build:
    def build(cluster: Cluster) -> None:
        for version in "12":
            manifest = make(name, f"shop:{version}", **more)
            pods = manifest["spec"]["template"]["spec"]
            pods["containers"][0]["envFrom"] = [{"configMapRef": {"name": "settings"}}]
            pods["serviceAccountName"] = "settings"
            pods["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": "settings"}}]
            cluster.apply(manifest)

    return build


def daemonset(name: str, image: str, **more: Any) -> dict[str, Any]:
    return workload("DaemonSet", name, image, **more)


def colors(cluster: Cluster) -> None:
    for color, replicas in (("blue", 1), ("green", 3)):
        put_out(deployment, f"shop-{color}", replicas=replicas, labels={"app": "backend", "color": color})(cluster)
    cluster.apply(service("shop", {"app": "backend", "color": "green"}))
    for color in ("blue", "green"):
        cluster.apply(autoscaler(f"shop-{color}", 9))


def way(strategy: str, **where: str) -> dict[str, Any]:
    return {"strategy": strategy, "kubernetes": {"namespace": "shop", **where}}


def both(cluster: Cluster) -> None:
    put_out(deployment)(cluster)
    cluster.apply(deployment("importer", "importer:9", 1))


ON_DELETE = {"updateStrategy": {"type": "OnDelete"}}
BLUE_GREEN = {
    "strategy": "blue_green",
    "pointer": {"namespace": "shop", "service": "shop"},
    "colors": {c: {"kubernetes": {"namespace": "shop", "deployment": f"shop-{c}"}} for c in ("blue", "green")},
}
CASES = {
    "rolling deployment": Case(way("rolling", deployment="backend"), put_out(deployment), (lambda c: None, fails)),
    "immediate deployment": Case(
        {**way("immediate", deployment="backend"), "stop": [{"namespace": "shop", "deployment": "importer"}]},
        both,
        (lambda c: None, fails),
    ),
    "rolling statefulset": Case(way("rolling", statefulset="backend"), put_out(statefulset), (lambda c: None, crashes)),
    "immediate statefulset": Case(way("immediate", statefulset="backend"), put_out(statefulset), (crashes,)),
    "statefulset on delete": Case(
        way("immediate", statefulset="backend"), put_out(statefulset, **ON_DELETE), (replaced, replaced_and_crashes)
    ),
    "rolling daemonset": Case(way("rolling", daemonset="backend"), put_out(daemonset), (lambda c: None, crashes)),
    "daemonset on delete": Case(
        way("immediate", daemonset="backend"),
        put_out(daemonset, **ON_DELETE),
        (replaced_and_fails, replaced_and_crashes),
    ),
    "blue_green": Case({**BLUE_GREEN, "failed_replicas": 0}, colors, (lambda c: None, swapped)),
    "blue_green without kept pods": Case({**BLUE_GREEN, "keep_pods": 0}, colors, (lambda c: None, swapped)),
}


def prepare(cluster: Cluster, case: Case) -> None:
    for kind in ("ConfigMap", "ServiceAccount", "PersistentVolumeClaim"):
        manifest: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": kind,
            "metadata": {"name": "settings", "namespace": "shop"},
        }
        if kind == "PersistentVolumeClaim":
            manifest["spec"] = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        cluster.put(manifest)
    case.build(cluster)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_check_asks_for_what_a_rollback_uses(case: Case) -> None:
    queried, used = await rights_of(case)
    assert {right: queried[right] for right in queried if right not in used} == {}, "never used"
    assert {right: names for right, names in used.items() if right not in queried} == {}, "never queried"
    for right, names in queried.items():  # a Role may grant single objects only
        assert names == used[right] or right[1] in ("pods", "nodes"), right


async def rights_of(case: Case) -> tuple[dict[Right, set[str]], dict[Right, set[str]]]:
    """The permissions that `check --live` queries, and those that the rollbacks use."""
    queried: dict[Right, set[str]] = {}
    used: dict[Right, set[str]] = {}
    for way in case.ways:
        clock = [0.0]
        cluster = Cluster(clock=lambda clock=clock: clock[0])
        cluster.installed |= CUSTOM
        prepare(cluster, case)
        kube = Recording(cluster)

        def wait(seconds: float, clock: list[float] = clock) -> None:
            clock[0] += seconds

        health_checks = [{"pods": {"namespace": "shop", "labels": {"app": case.app}}}]
        harness = Rollback(case.rollback, {Kubernetes: kube}, health_checks=health_checks, wait=wait)
        assert await problems(harness) == []
        for right, names in [*kube.queried.items(), *kube.used.items()]:  # a request answers as well
            queried.setdefault(right, set()).update(names)
        kube.used.clear()
        way(cluster)
        ended = await harness.run()
        assert ended.outcome in case.outcomes, ended.reason
        for right, names in kube.used.items():
            used.setdefault(right, set()).update(names)
    return queried, used


CUSTOM = {"argoproj.io", "flagger.app", "keda.sh"}
NAMED = re.compile(r"cannot (get|list|patch|delete) (?:resource )?\"?([A-Za-z]+)")


@pytest.mark.parametrize("installed", [set(), CUSTOM], ids=["plain cluster", "with custom kinds"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_each_missing_permission_is_named_alone(case: Case, installed: set[str], cluster: Cluster) -> None:
    cluster.installed |= installed
    used = set((await rights_of(case))[1])
    prepare(cluster, case)
    health_checks = [{"pods": {"namespace": "shop", "labels": {"app": case.app}}}]
    harness = Rollback(case.rollback, {Kubernetes: client_of(cluster)}, health_checks=health_checks)
    assert await problems(harness) == []
    for verb, resource in sorted(right for role, _ in shipped() for right in rights_in(role)):
        cluster.forbidden.clear()
        cluster.forbidden.add((verb, resource))
        needed = (verb, resource) in used and resource.rpartition("/")[0] in {*BUILT_IN, *cluster.installed}
        found = await problems(harness)
        assert bool(found) == needed, (verb, resource, found)
        for problem in found:
            assert {*map(_named, NAMED.finditer(problem.found))} == {(verb, resource.rpartition("/")[2])}, problem


def _named(match: re.Match[str]) -> Right:
    """Verb and plural of the kind that a problem names."""
    kind = match[2].lower()
    return match[1], kind if kind.endswith("s") else f"{kind}s"


async def problems(harness: Rollback) -> list[Problem]:
    found: list[Problem] = []
    for target in targets_of(("services", 0), harness.service, harness.gateway):
        try:
            found += await target.ask()
        except StepFailed as failure:
            found.append(Problem(target.name, str(failure)))
    return found

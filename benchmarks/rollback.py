"""From the decision to all pods healthy, beside `kubectl rollout undo` and `status` with the same batches.

The rounds of both alternate. `KUBECONFIG_E2E` names the cluster; without it, the API server of the tests is used: its
controllers are instant, so what is compared is what the two programs add to the time that the pods take.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.aims import aim
from benchmarks.report import Table, main, ms, share
from responder.backends.kubernetes.client import Kubernetes, KubernetesSettings
from responder.rollback.gateway import Gateway
from tests.apiserver import Cluster, Image
from tests.apiserver.manifests import deployment
from tests.apiserver.real.client import REAL
from tests.apiserver.real.cluster import RealCluster
from tests.parts import need
from tests.responder.harness import Rollback

_REPLICAS = 6
_READY_AFTER = 1.0
_HEALTHY = [{"pods": {"namespace": "shop", "labels": {"app": "backend"}, "at_least": _REPLICAS}}]


class Way(NamedTuple):
    """A strategy, and the rollout settings with which kubectl makes the same batches."""

    strategy: dict[str, Any]
    settings: dict[str, Any]


_WAYS = {
    "immediate": Way({"strategy": "immediate"}, {"maxSurge": 0, "maxUnavailable": "100%"}),
    "rolling, batches of 2": Way({"strategy": "rolling", "batch_size": 2}, {"maxSurge": 2, "maxUnavailable": 0}),
}


class Prepared(NamedTuple):
    """A cluster with version 2, its client, and what kubectl needs."""

    cluster: Any
    kube: Kubernetes
    config: Path
    namespace: str


def run(quick: bool, beside: Path | None) -> list[Table]:
    need("kubectl")
    rounds = 3 if quick else 12
    where = "the cluster of KUBECONFIG_E2E" if REAL else "the API server of the tests"
    table = Table(
        f"rollback: {_REPLICAS} pods, ready after {_READY_AFTER:g} s, on {where}; {rounds} rounds each, in turns",
        ["", "kubectl, median ms", "responder, median ms", "worst ms", "ratio"],
    )
    for name, way in _WAYS.items():
        pairs = [(asyncio.run(_once(way, ours=False)), asyncio.run(_once(way, ours=True))) for _ in range(rounds)]
        theirs, ours = zip(*pairs, strict=True)
        base, middle = statistics.median(theirs) * 1e3, statistics.median(ours) * 1e3
        ratio = middle / base
        table.add(name, ms(base), ms(middle), ms(max(ours) * 1e3), share(ratio))
        table.figures[name] = {"kubectl": base, "median": middle, "ratio": ratio}
        table.aims.append(aim(f"Kubernetes {name.partition(',')[0]}", ratio))
    return [table]


async def _once(way: Way, *, ours: bool) -> float:
    async with _prepared(way) as prepared:
        took = await (_ours(prepared, way.strategy) if ours else _kubectl(prepared))
        prepared.cluster.step()
        images = {pod["spec"]["containers"][0]["image"] for pod in prepared.cluster.all("Pod")}
        if images != {"shop:1"}:
            raise AssertionError(f"{images} run")
    return took


@contextlib.asynccontextmanager
async def _prepared(way: Way) -> AsyncIterator[Prepared]:
    with tempfile.TemporaryDirectory(prefix="bench-rollback-") as directory:
        if REAL:
            real = RealCluster()
            try:
                _prepare(real, way)
                yield Prepared(real, real.client(), Path(REAL), real.namespace)
            finally:
                await real.close()
            return
        cluster, config = Cluster(), Path(directory) / "config"
        _prepare(cluster, way)
        async with cluster.up() as url:
            config.write_text(json.dumps(cluster.kubeconfig(url)))
            kube = await Kubernetes.connect(KubernetesSettings(kubeconfig=config))
            yield Prepared(cluster, kube, config, "shop")
            await kube.close()


def _prepare(cluster: Any, way: Way) -> None:
    strategy = {"type": "RollingUpdate", "rollingUpdate": way.settings}
    for version in "12":
        cluster.apply(deployment("backend", f"shop:{version}", _REPLICAS, strategy=strategy))
    cluster.images["shop:1"] = Image(ready_after=_READY_AFTER)


async def _kubectl(prepared: Prepared) -> float:
    async def call(*argv: str) -> None:
        process = await asyncio.create_subprocess_exec(
            "kubectl", "--kubeconfig", str(prepared.config), "--namespace", prepared.namespace, "rollout", *argv,
            "deployment/backend", stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        if await process.wait():
            raise AssertionError(f"kubectl rollout {argv[0]} exited with {process.returncode}")

    began = time.monotonic()
    await call("undo")
    await call("status")
    return time.monotonic() - began


async def _ours(prepared: Prepared, strategy: dict[str, Any]) -> float:
    await prepared.kube.get("Deployment", "shop", "backend")  # a responder that runs has a connection
    where = {"kubernetes": {"namespace": "shop", "deployment": "backend"}}
    rollback = Rollback({**strategy, **where}, {Kubernetes: prepared.kube}, health_checks=_HEALTHY)
    rollback.gateway = Gateway(rollback.connections)
    rollback.stop_signal.pause = asyncio.sleep  # type: ignore[method-assign,assignment]
    began = time.monotonic()
    ended = await rollback.run()
    took = time.monotonic() - began
    if ended.outcome != "succeeded":
        raise AssertionError(ended.reason)
    return took


if __name__ == "__main__":
    main(run)

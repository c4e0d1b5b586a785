"""From the decision to all pods healthy, beside `kubectl rollout undo` and `status`, on the same objects.

The API server is the one of the tests: its controllers are instant and its pods take `_READY_AFTER` seconds each, so
what is compared is what the two programs add to that.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.report import Table, main, ms
from responder.backends.kubernetes.client import Kubernetes, KubernetesSettings
from tests.apiserver import Cluster, Image
from tests.apiserver.manifests import deployment
from tests.parts import need
from tests.responder.harness import Rollback

_REPLICAS = 6
_READY_AFTER = 0.1
_HEALTHY = [{"pods": {"namespace": "shop", "labels": {"app": "backend"}, "at_least": _REPLICAS}}]
_WAYS: dict[str, dict[str, Any]] = {
    "responder, rolling in batches of 2": {"strategy": "rolling", "batch_size": 2},
    "responder, immediate": {"strategy": "immediate"},
}


def run(quick: bool, beside: Path | None) -> list[Table]:
    need("kubectl")
    rounds = 3 if quick else 12
    taken: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name in ("kubectl rollout undo, then status", *_WAYS):
            taken.setdefault(name, []).append(asyncio.run(_once(name)))
    title = f"rollback: {_REPLICAS} pods, ready after {_READY_AFTER:g} s, from the decision to all healthy"
    table = Table(title, ["", "median ms", "worst ms", "ratio to kubectl"])
    base = statistics.median(taken["kubectl rollout undo, then status"]) * 1000
    for name, times in taken.items():
        middle = statistics.median(times) * 1000
        table.add(name, ms(middle), ms(max(times) * 1000), f"{middle / base:.2f}")
        table.figures[name] = {"median": middle, "ratio": middle / base}
    return [table]


async def _once(name: str) -> float:
    cluster = Cluster()
    for version in "12":
        cluster.apply(deployment("backend", f"shop:{version}", _REPLICAS))
    cluster.images["shop:1"] = Image(ready_after=_READY_AFTER)
    with tempfile.TemporaryDirectory(prefix="bench-rollback-") as directory:
        config = Path(directory) / "config"
        async with cluster.up() as url:
            config.write_text(json.dumps(cluster.kubeconfig(url)))
            took = await (_ours(config, _WAYS[name]) if name in _WAYS else _kubectl(config))
        cluster.step()
        images = {pod["spec"]["containers"][0]["image"] for pod in cluster.all("Pod")}
        if images != {"shop:1"}:
            raise AssertionError(f"{name}: {images} run")
    return took


async def _kubectl(config: Path) -> float:
    async def call(*argv: str) -> None:
        process = await asyncio.create_subprocess_exec(
            "kubectl", "--kubeconfig", str(config), "--namespace", "shop", "rollout", *argv, "deployment/backend",
            stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        if await process.wait():
            raise AssertionError(f"kubectl rollout {argv[0]} exited with {process.returncode}")

    began = time.monotonic()
    await call("undo")
    await call("status")
    return time.monotonic() - began


async def _ours(config: Path, way: dict[str, Any]) -> float:
    kube = await Kubernetes.connect(KubernetesSettings(kubeconfig=config))
    try:
        await kube.get("Deployment", "shop", "backend")  # a responder that runs has a connection
        strategy = {**way, "kubernetes": {"namespace": "shop", "deployment": "backend"}}
        rollback = Rollback(strategy, {Kubernetes: kube}, health_checks=_HEALTHY)
        began = time.monotonic()
        ended = await rollback.run()
        took = time.monotonic() - began
    finally:
        await kube.close()
    if ended.outcome != "succeeded":
        raise AssertionError(ended.reason)
    return took


if __name__ == "__main__":
    main(run)

"""End to end with real processes: a target breaks, the exporter reports it, and the shipped Prometheus rule fires.

The rules are those of alert_rules/, with every duration in them sixty times shorter: minutes become seconds.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
import pytest_asyncio
import yaml
from aiohttp import web

from tests import parts

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).parents[3]
FASTER = 60
WITHIN = 60.0  # seconds; all of it takes a few
NEVER_ENDS = "exporters-acceptance-never-ends"
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def faster(text: str) -> str:
    """A Prometheus duration, sixty times shorter, but long enough for two scrapes."""
    seconds = sum(int(n) * UNITS[unit] for n, unit in re.findall(r"([0-9]+)([smhd])", text))
    return f"{max(1000, round(seconds * 1000 / FASTER))}ms"


def shipped_rules(name: str) -> str:
    """A file of alert_rules/ with its windows, offsets and `for`s shortened, and nothing else changed."""
    rules = yaml.safe_load((ROOT / "alert_rules" / name).read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            rule["expr"] = re.sub(
                r"(?<=\[)[0-9smhd]+(?=\])|(?<=offset )[0-9smhd]+", lambda found: faster(found[0]), rule["expr"]
            )
            if "for" in rule:
                rule["for"] = faster(rule["for"])
    return yaml.safe_dump(rules, sort_keys=False)


@dataclass
class ProbeTargets:
    """The targets in configurable states, and the deployment series of the responder."""

    moods: dict[str, str] = field(default_factory=dict)
    deployed: dict[str, float] = field(default_factory=dict)

    async def answer(self, request: web.Request) -> web.Response:
        mood = self.moods.get(request.match_info["name"], "well")
        if mood == "hangs":
            await asyncio.sleep(600)
        return web.Response(status=500 if mood == "errors" else 200)

    async def deployments(self, _: web.Request) -> web.Response:
        name = "responder_deployment_timestamp_seconds"
        samples = [f'{name}{{service="{s}",environment="test"}} {at}\n' for s, at in self.deployed.items()]
        return web.Response(text=f"# TYPE {name} gauge\n{''.join(samples)}")


@dataclass
class AlertPipeline:
    """Everything between a target and an alert, running."""

    shop: ProbeTargets
    gone: web.TCPSite
    prometheus: str
    session: aiohttp.ClientSession
    disk: Path | None

    async def ask(self, query: str) -> list[tuple[dict[str, str], float]]:
        async with self.session.get(f"{self.prometheus}/api/v1/query", params={"query": query}) as answer:
            found = (await answer.json())["data"]["result"]
        return [(sample["metric"], float(sample["value"][1])) for sample in found]

    async def value(self, query: str) -> float | None:
        found = await self.ask(query)
        assert len(found) <= 1, f"{query} is {found}"
        return found[0][1] if found else None

    async def until(self, query: str, wanted: float | None) -> None:
        end = time.monotonic() + WITHIN
        while (seen := await self.value(query)) != wanted:
            assert time.monotonic() < end, f"{query} is {seen} and not {wanted}; firing: {await self.firing()}"
            await asyncio.sleep(0.1)

    async def firing(self) -> list[tuple[str, str]]:
        found = await self.ask('ALERTS{alertstate="firing"}')
        return sorted((labels["alertname"], labels.get("service", labels.get("mountpoint", ""))) for labels, _ in found)

    async def fires(self, alert: str, yes: bool = True, **labels: str) -> None:
        wanted = ",".join(f'{name}="{value}"' for name, value in {"alertname": alert, **labels}.items())
        await self.until(f'count(ALERTS{{{wanted},alertstate="firing"}})', 1 if yes else None)

    async def fails(self, check: str, reason: str) -> None:
        """A failed sample with its reason, and never a missing one."""
        await self.until(f'probe_success{{check_id="{check}"}}', 0)
        await self.until(f'probe_failed_due_to_{reason}{{check_id="{check}"}}', 1)
        assert await self.value(f'min_over_time(up{{check_id="{check}"}}[5s])') == 1


def checks(shop: int, gone: int, dsn: str) -> list[dict[str, Any]]:
    def http(name: str, port: int = shop) -> dict[str, Any]:
        return {"id": name, "service": name, "type": "http_response", "url": f"http://127.0.0.1:{port}/{name}"}

    database = {"service": "database", "type": "database_connection", "dsn": dsn}
    code = f"import time; time.sleep(600) # {NEVER_ENDS}"
    every = [
        *(http(name) for name in ("well", "errors", "hangs", "veteran")),
        http("gone", gone),
        {"id": "connects", **database},
        {"id": "asks", **database, "query": "SELECT nothing_of_that_name"},
        {"id": "ends", "service": "ends", "type": "custom", "command": [sys.executable, "-c", code]},
    ]
    return [{"environment": "test", "interval": "1s", "timeout": "400ms", **check} for check in every]


@pytest.fixture(scope="module")
def small_disk() -> Any:
    """A filesystem of 4 MiB; None if this machine cannot mount one."""
    folder = Path(subprocess.run(["mktemp", "-d"], check=True, capture_output=True, text=True).stdout.strip())
    argv = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(argv, capture_output=True).returncode == 0
    yield folder if mounted else None
    if mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)
    folder.rmdir()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pipeline(
    tmp_path_factory: pytest.TempPathFactory, postgres: Any, small_disk: Path | None
) -> AsyncIterator[AlertPipeline]:
    parts.need("prometheus")
    folder = tmp_path_factory.mktemp("way")
    shop = ProbeTargets(deployed={name: time.time() for name in ("well", "errors", "hangs", "gone", "ends")})
    shop.deployed["veteran"] = time.time() - 7200
    async with AsyncExitStack() as leaving:
        app = web.Application()
        app.add_routes([web.get("/metrics", shop.deployments), web.get("/{name}", shop.answer)])
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        leaving.push_async_callback(runner.cleanup)
        ports = [parts.free_port() for _ in range(3)]
        sites = [web.TCPSite(runner, "127.0.0.1", port) for port in ports[:2]]
        for site in sites:
            await site.start()
        (folder / "exporters.yml").write_text(
            json.dumps({"listen": f"127.0.0.1:{ports[2]}", "checks": checks(ports[0], ports[1], postgres.dsn)})
        )
        exporter = await parts.Process.start(
            [str(Path(sys.executable).with_name("exporters")), "serve", "--config", str(folder / "exporters.yml")],
            log=folder / "exporters.log",
            ready=f"http://127.0.0.1:{ports[2]}/-/ready",
            cwd=ROOT,
        )
        leaving.push_async_callback(exporter.terminate)
        static = {"exporters": ports[2], "responder": ports[0]}
        jobs: list[dict[str, Any]] = [
            {"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]} for name, port in static.items()
        ]
        discovered = {"url": f"http://127.0.0.1:{ports[2]}/sd", "refresh_interval": "1s"}
        config = {
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"},
            "scrape_configs": [*jobs, {"job_name": "probes", "http_sd_configs": [discovered]}],
        }
        rules = {name: shipped_rules(name) for name in ("availability.yml", "database.yml", "resources.yml")}
        prometheus = await leaving.enter_async_context(parts.prometheus(folder, yaml.safe_dump(config), rules=rules))
        session = await leaving.enter_async_context(aiohttp.ClientSession())
        pipeline = AlertPipeline(shop, sites[1], prometheus.url, session, small_disk)
        for check in ("well", "errors", "hangs", "veteran", "gone", "connects"):
            await pipeline.until(f'probe_success{{check_id="{check}"}}', 1)
        yield pipeline
    assert not [p for p in psutil.process_iter(["cmdline"]) if NEVER_ENDS in " ".join(p.info["cmdline"] or ())]


async def test_the_scrape_interval_is_the_configured_one(pipeline: AlertPipeline) -> None:
    async with pipeline.session.get(f"{pipeline.prometheus}/api/v1/targets") as answer:
        found = (await answer.json())["data"]["activeTargets"]
    probed = {
        target["labels"]["check_id"]: target["scrapeInterval"] for target in found if "check_id" in target["labels"]
    }
    assert probed == {check["id"]: "1s" for check in checks(1, 1, "")}


@pytest.mark.parametrize(
    ("service", "reason"), [("errors", "status"), ("hangs", "timeout"), ("gone", "connect"), ("ends", "timeout")]
)
async def test_a_failing_service_fires_a_rollback_alert(pipeline: AlertPipeline, service: str, reason: str) -> None:
    if service == "gone":
        await pipeline.gone.stop()
    pipeline.shop.moods[service] = service
    await pipeline.fails(service, reason)
    await pipeline.fires("ServiceFailing", service=service, environment="test", rollback="true")
    await pipeline.fires("CheckFailing", service=service, check_id=service)


async def test_alerts_of_recovered_targets_resolve(pipeline: AlertPipeline) -> None:
    pipeline.shop.moods["errors"] = "well"
    await pipeline.until('probe_success{check_id="errors"}', 1)
    await pipeline.fires("ServiceFailing", yes=False, service="errors")


async def test_an_old_deployment_pages_without_a_rollback_alert(pipeline: AlertPipeline) -> None:
    pipeline.shop.moods["veteran"] = "errors"
    await pipeline.fires("CheckFailing", service="veteran")
    # A different rule, evaluated at another time.
    await pipeline.until('count(service_environment:trouble{alertname="ServiceFailing",service="veteran"})', 1)
    assert await pipeline.ask('ALERTS{alertname="ServiceFailing",service="veteran"}') == []


async def test_a_restart_of_postgres_fires_and_resolves(pipeline: AlertPipeline, postgres: Any) -> None:
    # A failed query is not a lost connection: each has its own reason while the server is up.
    await pipeline.fails("asks", "query")
    assert await pipeline.ask('ALERTS{alertname="DatabaseConnectionLost"}') == []
    postgres.stop()
    try:
        await pipeline.fails("connects", "connect")
        await pipeline.fires("DatabaseConnectionLost", service="database", check_id="connects", severity="critical")
    finally:
        postgres.start()
    await pipeline.until('probe_success{check_id="connects"}', 1)
    await pipeline.fires("DatabaseConnectionLost", yes=False, check_id="connects")


async def test_a_full_disk_fires(pipeline: AlertPipeline) -> None:
    if pipeline.disk is None:
        pytest.skip("this machine cannot mount a filesystem")
    used = f'instance:resource_utilization:ratio{{resource="disk",mountpoint="{pipeline.disk}"}}'
    await pipeline.until(f"{used} == bool 0", 1)
    (pipeline.disk / "data").write_bytes(b"x" * int(3.9 * 2**20))
    await pipeline.fires("SystemMetricHigh", resource="disk", mountpoint=str(pipeline.disk))
    (pipeline.disk / "data").unlink()
    await pipeline.fires("SystemMetricHigh", yes=False, resource="disk", mountpoint=str(pipeline.disk))


async def test_a_command_that_never_ends_leaves_nothing_running(pipeline: AlertPipeline) -> None:
    await pipeline.fails("ends", "timeout")
    found = [p for p in psutil.process_iter(["cmdline"]) if NEVER_ENDS in " ".join(p.info["cmdline"] or ())]
    assert len(found) <= 1, "at most one is running"


async def test_healthy_targets_never_fire(pipeline: AlertPipeline) -> None:
    assert await pipeline.value('min_over_time(probe_success{check_id="well"}[5m])') == 1
    assert await pipeline.ask('count_over_time(ALERTS{service="well"}[5m])') == []

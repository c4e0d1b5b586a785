"""The data sources: a real Prometheus that scraped the history, and the journal in a real PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
from aiohttp import web

from responder.backends.alertmanager.client import Alertmanager, AlertmanagerSettings
from responder.backends.connections import Connections
from responder.backends.prometheus.client import Prometheus, PrometheusSettings
from responder.journal import open_journal
from tests import parts
from tests.grafana.history import History, KnowsOnset
from tests.responder.outside import FakeAlertmanager

ROOT = Path(__file__).parents[2]
RULES = [path for path in (ROOT / "alert_rules").glob("*.yml") if not path.name.endswith(".example.yml")]
GOLDEN = (ROOT / "tests" / "exporters" / "resources" / "metrics.golden").read_text()
EVERY = "500ms"  # a machine that is busy with other tests answers late
RANGE = {"$__rate_interval": "1m", "$__range": "1h", "$__interval": "15s"}
Values = dict[str, str]


@dataclass
class GrafanaQueries:
    """Queries as Grafana does, at the time of the end of the history."""

    prometheus: parts.Prometheus
    dsn: str
    at: float
    execution: str
    variables: Values

    def interpolated(self, text: str) -> str:
        """Replaces variables and macros as Grafana does. A remaining one is an error."""
        for name, value in RANGE.items():
            text = text.replace(name, value)
        begin, end = (datetime.fromtimestamp(at, UTC).isoformat() for at in (self.at - 7 * 86400, self.at))
        text = re.sub(r"\$__timeFilter\((.*?)\)", rf"\1 BETWEEN '{begin}' AND '{end}'", text)
        text = text.replace("$__timeFrom()", f"'{begin}'").replace("$__timeTo()", f"'{end}'")
        for name, value in self.variables.items():
            text = re.sub(rf"\$\{{{name}(:\w+)?\}}|\${name}\b", lambda _, value=value: value, text)
        assert not re.search(r"\$\w|\$\{", text.replace('"$1"', "")), f"an unknown variable in {text}"
        return text

    async def series(self, expr: str, *, instant: bool) -> list[dict[str, Any]]:
        """The series that have at least one number."""
        form = {"query": self.interpolated(expr)}
        if instant:
            path, form = "query", {**form, "time": str(self.at)}
        else:
            path, form = "query_range", {**form, "start": str(self.at - 60), "end": str(self.at), "step": "1"}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.prometheus.url}/api/v1/{path}", data=form) as answer,
        ):
            body = await answer.json()
        assert body["status"] == "success", f"{body.get('error')}: {form['query']}"
        found = body["data"]["result"]
        return [
            sample
            for sample in found
            if any(value != "NaN" for _, value in sample.get("values", [sample.get("value")]))
        ]

    async def rows(self, sql: str) -> list[dict[str, Any]]:
        """Queries with Grafana's role."""
        connection = await asyncpg.connect(self.dsn, user="grafana_reader")
        try:
            return [dict(row) for row in await connection.fetch(self.interpolated(sql))]
        finally:
            await connection.close()


def _checks(port: int, dsn: str) -> list[dict[str, Any]]:
    every: list[dict[str, Any]] = [
        {"id": "web_page", "service": "web", "type": "http_response", "url": f"http://127.0.0.1:{port}/broken"},
        {"id": "web_port", "service": "web", "type": "tcp", "address": f"127.0.0.1:{port}"},
        {"id": "shop", "service": "shop-1", "type": "http_response", "url": f"http://127.0.0.1:{port}/well"},
        {"id": "database", "service": "shop-1", "type": "database_connection", "dsn": dsn},
    ]
    return [{"environment": "production", "interval": "1s", "timeout": "800ms", **check} for check in every]


_looks = count(1)


async def _shop(request: web.Request) -> web.Response:
    """A user's application, with errors and latency, and series that this machine's exporter may lack."""
    n = next(_looks)
    where = 'service="web",environment="production"'
    lines = [
        f'http_requests_total{{{where},code="200"}} {20 * n}',
        f'http_requests_total{{{where},code="500"}} {10 * n}',
        f'http_request_duration_seconds_bucket{{{where},le="0.5"}} {10 * n}',
        f'http_request_duration_seconds_bucket{{{where},le="1"}} {30 * n}',
        f'http_request_duration_seconds_bucket{{{where},le="+Inf"}} {30 * n}',
        f'probe_ssl_earliest_cert_expiry{{{where},check_id="web_page",job="probes"}} {time.time() + 1e6}',
    ]
    return web.Response(text="\n".join(lines) + "\n")


async def _other_host(request: web.Request) -> web.Response:
    return web.Response(text=GOLDEN)


async def _broken(request: web.Request) -> web.Response:
    return web.Response(status=500)


async def _well(request: web.Request) -> web.Response:
    return web.Response(text="well")


def _job(name: str, target: str, job: str = "", path: str = "/metrics") -> dict[str, Any]:
    static = {"targets": [target.removeprefix("http://")], "labels": {"job": job or name}}
    return {"job_name": name, "metrics_path": path, "static_configs": [static]}


@asynccontextmanager
async def lived(folder: Path, dsn: str) -> AsyncIterator[GrafanaQueries]:
    """The history in the journal at `dsn`, scraped by a Prometheus with the shipped rules."""
    async with AsyncExitStack() as leaving:
        admin = await asyncpg.connect(dsn)
        if not await admin.fetchval("SELECT 1 FROM pg_roles WHERE rolname = 'grafana_reader'"):
            await admin.execute("CREATE ROLE grafana_reader")
        await admin.execute("ALTER ROLE grafana_reader LOGIN")
        await admin.close()
        journal = await open_journal(dsn)
        leaving.push_async_callback(journal.close)
        onset = await leaving.enter_async_context(KnowsOnset().up())
        fake_alertmanager = await leaving.enter_async_context(FakeAlertmanager().up())
        settings = {
            Alertmanager: AlertmanagerSettings(urls=(fake_alertmanager.url,)),
            Prometheus: PrometheusSettings(url=onset.url),
        }
        connections = Connections(settings.get)
        leaving.push_async_callback(connections.close)
        history = History(journal, connections, fake_alertmanager, onset)

        app = web.Application()
        app.add_routes(
            [
                web.get("/responder", history.series),
                web.get("/shop", _shop),
                web.get("/other-host", _other_host),
                web.get("/broken", _broken),
                web.get("/well", _well),
            ]
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        leaving.push_async_callback(runner.cleanup)
        port, exporter_port = parts.free_port(), parts.free_port()
        await web.TCPSite(runner, "127.0.0.1", port).start()

        exporters_yml = folder / "exporters.yml"
        exporters_yml.write_text(json.dumps({"listen": f"127.0.0.1:{exporter_port}", "checks": _checks(port, dsn)}))
        exporter = await parts.Process.start(
            [str(Path(sys.executable).with_name("exporters")), "serve", "--config", str(exporters_yml)],
            log=folder / "exporters.log",
            ready=f"http://127.0.0.1:{exporter_port}/-/ready",
            cwd=ROOT,
        )
        leaving.push_async_callback(exporter.terminate)
        alertmanager = await leaving.enter_async_context(
            parts.alertmanager(
                folder,
                "route: {receiver: nobody}\nreceivers: [{name: nobody, webhook_configs: [{url: 'http://127.0.0.1:1'}]}]\n",
            )
        )
        own = parts.free_port()
        jobs = [
            _job("responder", f"127.0.0.1:{port}", path="/responder"),
            _job("shop", f"127.0.0.1:{port}", path="/shop"),
            _job("exporters", f"127.0.0.1:{exporter_port}"),
            _job("other-host", f"127.0.0.1:{port}", job="exporters", path="/other-host"),
            _job("alertmanager", alertmanager.url),
            _job("prometheus", f"127.0.0.1:{own}"),
            {"job_name": "probes", "http_sd_configs": [{"url": f"http://127.0.0.1:{exporter_port}/sd"}]},
        ]
        config = {
            "global": {"scrape_interval": EVERY, "scrape_timeout": EVERY, "evaluation_interval": EVERY},
            "rule_files": [str(path) for path in RULES],
            "scrape_configs": [{**job, "honor_labels": True} for job in jobs],
            "alerting": {
                "alertmanagers": [{"static_configs": [{"targets": [alertmanager.url.removeprefix("http://")]}]}]
            },
        }
        await history.play_now()
        await history.play(1)
        prometheus = await leaving.enter_async_context(parts.prometheus(folder, json.dumps(config), port=own))
        targets = len(jobs) - 1 + len(_checks(0, ""))
        await prometheus.targets_up(targets, within=60)
        await history.play(2)
        for seen in (
            'responder_webhooks_total{outcome="accepted"} == 2',
            'ALERTS{alertname="ServiceFailing",alertstate="firing",service="web"}',
            "service_environment:http_request_duration_seconds:p95_5m > 0",
        ):
            await prometheus.until(seen, within=60)
        await asyncio.sleep(1.2)  # two evaluations of the rules after the last event
        await prometheus.targets_up(targets, within=60)
        yield GrafanaQueries(
            prometheus=prometheus,
            dsn=dsn,
            at=time.time(),
            execution=history.running_one,
            variables={
                "service": ".*",
                "environment": ".*",
                "instance": ".*",
                "execution": history.running_one,
                "its_service": "web",
                "its_environment": "production",
            },
        )

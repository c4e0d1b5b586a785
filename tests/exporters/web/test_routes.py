"""The endpoints over real HTTP, as Prometheus and people use them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from exporters import runner
from exporters.errors import Unable
from exporters.live import Live
from exporters.metrics import OwnMetrics
from exporters.probes.tcp import Tcp
from exporters.web.routes import MOST_AT_ONCE, MOST_COLLECTIONS, SCRAPE_TIMEOUT, Routes

Client = TestClient[Any, Any]
Serve = Callable[..., Awaitable[Client]]


@pytest.fixture(autouse=True)
def busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hanging targets are failures here, even if this machine stalled the exporter."""
    monkeypatch.setattr(runner, "STALLED", float("inf"))


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """Serves these checks; returns a client."""
    clients: list[tuple[Client, Live]] = []

    async def served(*checks: dict[str, Any], **top: Any) -> Client:
        filled = [{"id": "it", "service": "shop", "environment": "test", **check} for check in checks]
        (tmp_path / "exporters.yml").write_text(json.dumps({"checks": filled, **top}))
        live = Live(tmp_path / "exporters.yml", OwnMetrics())
        client = TestClient(TestServer(Routes(live).app()))
        await client.start_server()
        clients.append((client, live))
        return client

    yield served
    for client, live in clients:
        await client.close()
        await live.close()


def samples(text: str) -> dict[str, float]:
    return {s.name: s.value for family in text_string_to_metric_families(text) for s in family.samples}


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def test_probe(serve: Serve, answer: Any) -> None:
    client = await serve(
        {"type": "http_response", "url": await answer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")}
    )
    for _ in range(2):
        response = await client.get("/probe?check=it")
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/plain; version=")
        text = await response.text()
        assert samples(text)["probe_success"] == 1
        assert text.count("\nprobe_success 1.0") == 1
    subprocess.run(["/usr/bin/promtool", "check", "metrics"], input=text, text=True, check=True)
    own = await (await client.get("/metrics")).text()
    assert 'exporter_probes_total{outcome="success",type="http_response"} 2.0' in own
    assert "exporter_overhead_seconds_count 2.0" in own


async def test_a_hanging_target_is_a_failed_sample_within_the_scrape(serve: Serve, talk: Any) -> None:
    client = await serve({"type": "tcp", "address": f"127.0.0.1:{await talk(hang)}", "answer_matches": "x"})
    response = await client.get("/probe?check=it", headers={SCRAPE_TIMEOUT: "0.2"})
    found = samples(await response.text())
    assert (response.status, found["probe_success"], found["probe_failed_due_to_timeout"]) == (200, 0, 1)
    assert found["probe_timeout_seconds"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("query", "status"), [("", 404), ("?check=other", 404), ("?target=http://169.254.169.254/", 404)]
)
async def test_only_configured_checks_can_be_probed(serve: Serve, query: str, status: int) -> None:
    client = await serve({"type": "tcp", "address": "h:1"})
    assert (await client.get(f"/probe{query}")).status == status


@pytest.mark.parametrize("header", ["x", "-1", "0", "nan", "inf"])
async def test_an_invalid_scrape_timeout_is_rejected(serve: Serve, header: str) -> None:
    client = await serve({"type": "tcp", "address": "h:1"})
    assert (await client.get("/probe?check=it", headers={SCRAPE_TIMEOUT: header})).status == 400


async def test_too_many_concurrent_probes_of_one_check_are_rejected(serve: Serve, talk: Any) -> None:
    hung = {"type": "tcp", "address": f"127.0.0.1:{await talk(hang)}", "answer_matches": "x", "timeout": "300ms"}
    client = await serve(hung, {"id": "other", "type": "custom", "command": ["true"]})
    many = [asyncio.create_task(client.get("/probe?check=it")) for _ in range(MOST_AT_ONCE + 3)]
    assert samples(await (await client.get("/probe?check=other")).text())["probe_success"] == 1
    statuses = [response.status for response in await asyncio.gather(*many)]
    assert (statuses.count(200), statuses.count(503)) == (MOST_AT_ONCE, 3)


@pytest.mark.parametrize(
    ("error", "status", "outcome"), [(Unable("out of files"), 503, "unable"), (KeyError("s3cret"), 500, "bug")]
)
async def test_a_fault_of_the_exporter_is_a_missing_sample_and_logged_once_per_minute(
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    status: int,
    outcome: str,
) -> None:
    async def probe(*_: object) -> None:
        raise error

    monkeypatch.setattr(Tcp, "probe", probe)
    client = await serve({"type": "tcp", "address": "h:1"})
    for _ in range(20):
        response = await client.get("/probe?check=it")
        text = await response.text()
        assert (response.status, "probe_success" in text, "s3cret" in text) == (status, False, False)
    page = await (await client.get("/metrics")).text()
    assert f'exporter_probes_total{{outcome="{outcome}",type="tcp"}} 20.0' in page
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1


async def test_no_endpoint_shows_a_secret(
    serve: Serve, answer: Any, caplog: pytest.LogCaptureFixture, port: int, redis_port: int
) -> None:
    secret = "s3cret-pw"
    echo = b'HTTP/1.1 500 Oops\r\nContent-Length: 23\r\n\r\n{"status": "s3cret-pw"}'
    url = await answer(echo) + f"?token={secret}"
    http = {"type": "http_response", "environment": "test", "url": url, "expected_status": "5xx"}
    client = await serve(
        {"id": "a", **http, "bearer_token": secret, "json_equals": {"status": "ok"}},
        {"id": "b", **http, "headers": {"X-Key": secret}, "json_equals": {"status": "ok"}},
        {"id": "c", "type": "database_connection", "dsn": f"postgresql://u:{secret}@127.0.0.1:{port}/d"},
        {
            "id": "d",
            "type": "database_connection",
            "dsn": f"redis://:{secret}@127.0.0.1:{redis_port}/0",
            "query": f"ECHO {secret}",
            "expected": "x",
        },
        {
            "id": "e",
            "type": "custom",
            "command": ["sh", "-c", "echo $TOKEN >&2; echo $TOKEN"],
            "env": {"TOKEN": secret},
            "value": "number",
        },
        {"id": "f", "type": "tcp", "address": f"127.0.0.1:{port}", "send": secret},
    )
    seen = []
    for check_id in "abcdef":
        for path in (f"/probe?check={check_id}", f"/probe?check={check_id}&debug=true", f"/?check={check_id}"):
            seen.append(await (await client.get(path)).text())
    for path in ("/", "/sd", "/metrics"):
        seen.append(await (await client.get(path)).text())
    assert "failed (json)" in "".join(seen)
    assert secret not in "".join(seen) + caplog.text + repr([record.__dict__ for record in caplog.records])


async def test_debug_shows_the_log_and_the_series(serve: Serve, port: int) -> None:
    client = await serve({"type": "tcp", "address": f"127.0.0.1:{port}"})
    text = await (await client.get("/probe?check=it&debug=true")).text()
    assert text.startswith("it failed (connect): cannot connect")
    assert "probe_failed_due_to_connect 1.0" in text


async def test_discovery(serve: Serve) -> None:
    client = await serve(
        {"type": "tcp", "address": "h:1", "interval": "30s", "timeout": "2s", "labels": {"team": "x"}},
        {"id": "quick", "type": "tcp", "address": "h:1", "interval": "1s", "timeout": "1s"},
        advertise="exporter.shop:9469",
    )
    response = await client.get("/sd")
    assert response.content_type == "application/json"
    first, second = await response.json()
    assert first == {
        "targets": ["exporter.shop:9469"],
        "labels": {
            "__metrics_path__": "/probe",
            "__param_check": "it",
            "__scrape_interval__": "30s",
            "__scrape_timeout__": "2s500ms",
            "service": "shop",
            "environment": "test",
            "check_id": "it",
            "team": "x",
        },
    }
    assert second["labels"]["__scrape_timeout__"] == "1s", "never longer than the interval"


async def test_discovery_without_checks_is_an_empty_list(serve: Serve) -> None:
    client = await serve()
    assert await (await client.get("/sd")).json() == []


async def test_metrics_are_clean(serve: Serve) -> None:
    client = await serve({"type": "tcp", "address": "h:1"}, resources=["load"])
    text = await (await client.get("/metrics")).text()
    subprocess.run(["/usr/bin/promtool", "check", "metrics"], input=text, text=True, check=True)
    assert {"resource_load1", "exporter_checks", "exporter_config_last_reload_successful"} <= set(samples(text))


async def test_a_hanging_disk_does_not_use_all_threads(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(4 * MOST_COLLECTIONS))  # as `serve` does
    answers, waiting = threading.Event(), threading.Semaphore(0)

    def collect(_: object) -> Iterator[Metric]:
        waiting.release()
        answers.wait(5)
        return iter(())

    monkeypatch.setattr("exporters.resources.collector.Resources.collect", collect)
    client = await serve({"type": "tcp", "address": "h:1"})
    stuck = [asyncio.create_task(client.get("/metrics")) for _ in range(MOST_COLLECTIONS)]
    for _ in stuck:
        await asyncio.to_thread(waiting.acquire)
    assert (await client.get("/metrics")).status == 503
    answers.set()
    assert [response.status for response in await asyncio.gather(*stuck)] == [200] * MOST_COLLECTIONS


async def test_a_secret_in_a_path_is_not_on_the_page(serve: Serve, monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    monkeypatch.setenv("HOOK", "sup3rs3cret")
    client = await serve({"type": "http_response", "url": f"http://127.0.0.1:{port}/${{HOOK}}/x"})
    await client.get("/probe", params={"check": "it"})
    for path in ("/", "/?check=it", "/probe?check=it&debug=true"):
        assert "sup3rs3cret" not in await (await client.get(path)).text()


async def test_pages(serve: Serve, port: int) -> None:
    client = await serve({"type": "tcp", "address": f"127.0.0.1:{port}"})
    await client.get("/probe?check=it")
    response = await client.get("/")
    assert "failed: connect" in await response.text()
    assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "probe now" in await (await client.get("/?check=it")).text()
    assert (await client.get("/?check=other")).status == 404
    for path in ("/-/healthy", "/-/ready"):
        assert (await client.get(path)).status == 200


async def test_reload(serve: Serve, tmp_path: Path) -> None:
    client = await serve({"type": "tcp", "address": "h:1"})
    (tmp_path / "exporters.yml").write_text("checks: []")
    response = await client.post("/-/reload")
    assert (response.status, await response.json()) == (200, {"checks": 0})
    (tmp_path / "exporters.yml").write_text("checks: 5")
    response = await client.post("/-/reload")
    assert response.status == 400
    assert "exporters.yml:1 checks: must be a list" in (await response.json())["error"]
    assert (await client.get("/-/reload")).status == 405


@pytest.mark.parametrize(
    "headers", [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]
)
async def test_a_web_page_cannot_reload(serve: Serve, tmp_path: Path, headers: dict[str, str]) -> None:
    client = await serve({"type": "tcp", "address": "h:1"})
    (tmp_path / "exporters.yml").write_text("checks: []")
    response = await client.post("/-/reload", headers=headers)
    assert (response.status, len(await (await client.get("/sd")).json())) == (403, 1)

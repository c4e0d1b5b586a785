"""Each external process starts, answers, stops, and leaves nothing running."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp import web

from tests import parts

SCRAPES_ITSELF = """
global: {{scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}}
scrape_configs:
  - job_name: itself
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""
ALWAYS = "groups: [{name: a, rules: [{alert: Always, expr: 'vector(1)', labels: {service: backend}}]}]"
NO_RECEIVER = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"
SLEEPS = [sys.executable, "-c", "import time; time.sleep(60)"]


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


async def sql(dsn: str, statement: str) -> str:
    psql = parts.program("psql")
    assert psql
    ran = await asyncio.to_thread(
        subprocess.run, [psql, "-qAtX", "-v", "ON_ERROR_STOP=1", "-c", statement, dsn], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


async def test_prometheus_scrapes_answers_and_reloads(tmp_path: Path) -> None:
    parts.need("prometheus")
    port = parts.free_port()
    config = SCRAPES_ITSELF.format(port=port)
    async with parts.prometheus(tmp_path, config, rules={"always.yml": ALWAYS}, port=port) as p:
        assert p.url == f"http://127.0.0.1:{port}"
        (target,) = await p.targets_up(1)
        assert target["labels"]["job"] == "itself"
        assert (await p.until('up{job="itself"}'))[0]["value"][1] == "1"
        assert await p.query("up", time=1_000_000) == []
        assert await p.until('ALERTS{alertname="Always", alertstate="firing"}')
        assert [alert["labels"]["alertname"] for alert in await p.alerts()] == ["Always"]
        with pytest.raises(ValueError, match="scalar"):
            await p.query("1")
        with pytest.raises(RuntimeError, match=r"400.*parse error"):
            await p.query("up{")
        await p.reload("global: {external_labels: {cluster: lab}}")
        await p.targets_up(0)
        with pytest.raises(RuntimeError, match="500"):
            await p.reload("no: such key")
        pid = p.process.pid
    assert gone(pid)


async def test_alerts_reach_the_alertmanager_without_the_default_minute(tmp_path: Path) -> None:
    parts.need("prometheus", "prometheus-alertmanager")
    async with parts.alertmanager(tmp_path, NO_RECEIVER) as am:
        config = f"""
global: {{evaluation_interval: 200ms}}
alerting: {{alertmanagers: [{{static_configs: [{{targets: ["{am.url.removeprefix("http://")}"]}}]}}]}}
"""
        async with parts.prometheus(tmp_path, config, rules={"always.yml": ALWAYS}) as p:
            await p.alertmanagers()
            (alert,) = await parts.until(am.alerts)
            assert alert["labels"] == {"alertname": "Always", "service": "backend"}
            assert alert["generatorURL"].startswith(p.url)


async def test_alertmanager_takes_alerts_and_silences(tmp_path: Path) -> None:
    parts.need("prometheus-alertmanager")
    async with parts.alertmanager(tmp_path, NO_RECEIVER) as am:
        await am.alert({"alertname": "BackendDown", "service": "backend"}, {"summary": "it is"}, ends_in=60)
        await am.alert({"alertname": "BackendDown", "service": "frontend"})
        assert len(await am.alerts()) == 2
        (alert,) = await am.alerts(service="backend")
        assert alert["annotations"] == {"summary": "it is"}
        assert alert["status"]["state"] in {"active", "unprocessed"}

        silence = await am.silence({"service": "backend"}, comment="a test")

        async def suppressed() -> bool:
            (alert,) = await am.alerts(service="backend")
            return bool(alert["status"]["silencedBy"] == [silence])

        assert await parts.until(suppressed)
        assert await am.alerts(service="backend", silenced=False) == []
        await am.expire(silence)
        await parts.until(suppressed, lambda yes: not yes)

        await am.alert({"alertname": "BackendDown", "service": "backend"}, ends_in=0)
        await parts.until(lambda: am.alerts(service="backend"), lambda alerts: alerts == [])
        pid = am.process.pid
    assert gone(pid)


async def test_alertmanager_restarts_on_its_port_with_its_silences(tmp_path: Path) -> None:
    parts.need("prometheus-alertmanager")
    port = parts.free_port()
    labels = {"alertname": "BackendDown"}
    async with parts.alertmanager(tmp_path, NO_RECEIVER, port=port) as am:
        silence = await am.silence(labels)
    async with parts.alertmanager(tmp_path, NO_RECEIVER, port=port) as am:
        await am.alert(labels)
        (alert,) = await parts.until(lambda: am.alerts(active=False, silenced=True))
        assert alert["status"]["silencedBy"] == [silence]


async def test_postgres_keeps_committed_data_after_a_crash(tmp_path: Path) -> None:
    parts.need("postgres", "initdb", "psql")
    async with parts.postgres(tmp_path) as pg:
        dsn = await pg.database('an "odd" name')
        assert await sql(dsn, "select current_database()") == 'an "odd" name'
        assert await sql(dsn, "show fsync") == "on"
        await sql(dsn, "create table kept as select 42 as answer")
        assert pg.process is not None
        first = pg.process.pid
        await pg.stop()
        assert gone(first)
        await pg.start()
        assert await sql(dsn, "select answer from kept") == "42"
        assert "not properly shut down" in pg.process.tail(100)
        second = pg.process.pid
        data = pg.data
    assert gone(second)
    assert not any(f"-D {data}" in command for command in commands())


def commands() -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(entry.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:  # it ended meanwhile
            continue
    return found


async def test_redis_loses_its_data_when_it_stops(tmp_path: Path) -> None:
    parts.need("redis-server")

    async def say(*words: str) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(" ".join(words).encode() + b"\r\n")
        line = await reader.readline()
        writer.close()
        await writer.wait_closed()
        return line

    async with parts.redis(tmp_path) as server:
        assert server.url == f"redis://127.0.0.1:{server.port}/0"
        assert await say("SET", "key", "value") == b"+OK\r\n"
        await server.stop()
        with pytest.raises(ConnectionRefusedError):
            await say("PING")
        await server.start()
        assert await say("GET", "key") == b"$-1\r\n"
        assert server.process is not None
        pid = server.process.pid
    assert gone(pid)


async def test_a_server_that_ends_before_it_is_ready_shows_its_log(tmp_path: Path) -> None:
    parts.need("prometheus")
    with pytest.raises(RuntimeError, match=r"ended with \d+ before it was ready[^$]*no_such_key"):
        async with parts.prometheus(tmp_path, "no_such_key: 1"):
            pytest.fail("it must not start")


async def test_a_server_that_never_becomes_ready_is_terminated(tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{parts.free_port()}/"
    argv = [sys.executable, "-c", "import time; print('warming up', flush=True); time.sleep(60)"]
    with pytest.raises(RuntimeError, match=r"not ready within 1 s[^$]*warming up"):
        await parts.Process.start(argv, log=tmp_path / "log", ready=nobody, within=1, env={"MARK": str(tmp_path)})
    marked = [
        entry
        for entry in Path("/proc").glob("[0-9]*/environ")
        if os.access(entry, os.R_OK) and f"MARK={tmp_path}".encode() in _read(entry)
    ]
    assert marked == []


def _read(entry: Path) -> bytes:
    try:
        return entry.read_bytes()
    except OSError:
        return b""


async def test_terminate_kills_a_process_that_does_not_exit(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); print('up'); time.sleep(60)"]
    process = await parts.Process.start(
        [argv[0], "-u", *argv[1:]], log=tmp_path / "log", ready=lambda: _logged(tmp_path)
    )
    assert process.running
    assert await process.end(signal.SIGTERM, within=0.2) == -signal.SIGKILL
    assert not process.running


async def _logged(directory: Path) -> bool:
    return "up" in (directory / "log").read_text()


@pytest.mark.skipif(not Path("/usr/bin/setpriv").exists(), reason="setpriv (util-linux) gives the lifeline")
def test_servers_end_when_the_tests_are_killed(tmp_path: Path) -> None:
    code = f"""
import asyncio, os, pathlib, sys
from tests import parts
log = pathlib.Path({str(tmp_path)!r}) / "log"
argv = [sys.executable, "-u", "-c", "import time; print('up'); time.sleep(60)"]
async def up(): return "up" in log.read_text()
process = asyncio.run(parts.Process.start(argv, log=log, ready=up))
print(process.pid, flush=True)
os.kill(os.getpid(), 9)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    pid = int(ran.stdout)

    async def ended() -> bool:
        stat = Path(f"/proc/{pid}/stat")
        return not stat.exists() or stat.read_text().split(") ")[1][0] == "Z"

    assert asyncio.run(parts.until(ended, within=5))


async def test_an_answer_other_than_200_is_not_ready(tmp_path: Path) -> None:
    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=503)

    app = web.Application()
    app.router.add_get("/-/ready", refuse)
    runner = web.AppRunner(app)
    await runner.setup()
    port = parts.free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        with pytest.raises(RuntimeError, match="not ready"):
            await parts.Process.start(
                SLEEPS, log=tmp_path / "log", ready=f"http://127.0.0.1:{port}/-/ready", within=0.3
            )
    finally:
        await runner.cleanup()


def test_free_ports_are_free_and_outside_the_ephemeral_range() -> None:
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = [parts.free_port() for _ in range(50)]
    assert all(1024 < port < low for port in ports)
    assert len(set(ports)) > 40


def test_missing_names_the_debian_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "program", lambda name: "/bin/it" if name == "wrk" else None)
    assert parts.missing("promtool", "prometheus", "wrk", "amtool") == ["prometheus", "prometheus-alertmanager"]
    assert parts.missing("wrk") == []
    with pytest.raises(KeyError):
        parts.missing("prometeus")


def test_need_skips_locally_and_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "program", lambda name: None)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"apt-get install .* redis-server webhook"):
        parts.need("webhook", "redis-server")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=r"CI lacks a part: apt-get install .* wrk"):
        parts.need("wrk")
    monkeypatch.setattr(parts, "program", lambda name: f"/usr/bin/{name}")
    parts.need("wrk")

"""The real process: signals, logs, and the state after its end."""

from __future__ import annotations

import json
import re
import resource
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from foundation.connections import CAUSES, MOST_OF_ONE_PEER, allow_many_files

CHECKS = """\
checks:
  - {{id: hung, service: s, environment: e, type: tcp, address: '127.0.0.1:{port}', answer_matches: x,
     interval: 2m, timeout: 110s}}
"""


class Exporter:
    def __init__(self, path: Path, port: int, first: str = "") -> None:
        self.port, self.path = port, path
        argv = [sys.executable, "-c", f"import sys; from exporters.cli import main\n{first}\nsys.exit(main())", "serve"]
        argv += ["--config", str(path), "--listen", f"127.0.0.1:{port}"]
        self.process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as response:
            return str(response.read().decode())

    def until(self, path: str, text: str) -> None:
        for _ in range(2000):
            with suppress(OSError):
                if text in self.get(path):
                    return
            time.sleep(0.05)
        pytest.fail(f"{path} never said {text}")

    def log(self) -> list[dict[str, object]]:
        _, stderr = self.process.communicate(timeout=60)
        return [json.loads(line) for line in stderr.splitlines()]


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


@pytest.fixture
def exporter(tmp_path: Path, port: int, silent: int) -> Iterator[Exporter]:
    (tmp_path / "e.yml").write_text(CHECKS.format(port=silent))
    exporter = Exporter(tmp_path / "e.yml", port)
    exporter.until("/-/ready", "ok")
    yield exporter
    exporter.process.kill()
    exporter.process.communicate()


def test_it_stops_within_a_second_despite_a_hanging_probe(exporter: Exporter) -> None:
    with socket.create_connection(("127.0.0.1", exporter.port)) as scrape:
        scrape.sendall(b"GET /probe?check=hung HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(0.2)
        exporter.process.send_signal(signal.SIGTERM)
        assert exporter.process.wait(60) == 0, "it waited for the probe"
    assert [line["event"] for line in exporter.log()] == ["listening", "stopping"]


def test_it_stops_despite_a_hanging_name_server(tmp_path: Path, port: int) -> None:
    (tmp_path / "e.yml").write_text(CHECKS.format(port=1).replace("127.0.0.1:1", "shop.example:1"))
    hangs = "import socket, time\nsocket.getaddrinfo_ = socket.getaddrinfo\nsocket.getaddrinfo = lambda h, *a, **k: "
    hangs += "time.sleep(30) if h == 'shop.example' else socket.getaddrinfo_(h, *a, **k)"
    exporter = Exporter(tmp_path / "e.yml", port, hangs)
    try:
        exporter.until("/-/ready", "ok")
        with socket.create_connection(("127.0.0.1", port)) as scrape:
            scrape.sendall(b"GET /probe?check=hung HTTP/1.1\r\nHost: x\r\n\r\n")
            time.sleep(0.2)
            exporter.process.send_signal(signal.SIGTERM)
            assert exporter.process.wait(5) == 0
    finally:
        exporter.process.kill()
        exporter.process.communicate()


def test_sighup_reloads_and_an_invalid_file_is_rejected(exporter: Exporter) -> None:
    exporter.path.write_text("checks: []\n")
    exporter.process.send_signal(signal.SIGHUP)
    exporter.until("/metrics", "exporter_checks 0.0")
    exporter.path.write_text("checks: 5\n")
    exporter.process.send_signal(signal.SIGHUP)
    exporter.until("/metrics", "exporter_config_last_reload_successful 0.0")
    assert exporter.get("/sd") == "[]"
    exporter.process.send_signal(signal.SIGTERM)
    log = exporter.log()
    assert [line["event"] for line in log][1:3] == [
        "configuration reloaded",
        "configuration reload failed",
    ]
    assert log[2]["problems"] == [f"{exporter.path}:1 checks: must be a list, not 5 (write [5])"]


@pytest.fixture
def many_files() -> Iterator[None]:
    """File descriptors for a few thousand connections of the test."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    allow_many_files()
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("sent", [b"", b"GET /probe?check=hung HTTP/1.1\r\nHost: x\r\n"])
def test_it_answers_despite_2000_idle_connections(exporter: Exporter, many_files: None, sent: bytes) -> None:
    with ExitStack() as open_until_the_end:
        for _ in range(2000):
            silent = open_until_the_end.enter_context(socket.create_connection(("127.0.0.1", exporter.port)))
            with suppress(OSError):  # already ended
                silent.sendall(sent)
        assert exporter.get("/-/healthy") == "ok\n"
        page = exporter.get("/metrics")
        series = {s.name: s.value for f in text_string_to_metric_families(page) for s in f.samples if not s.labels}
        ended = re.search(r'exporter_http_connections_ended_total\{cause="too_many"\} (\S+)', page)
        assert ended and float(ended[1]) >= 2000 - MOST_OF_ONE_PEER - 4
        assert series["process_open_fds"] < series["process_max_fds"] / 2
    exporter.process.send_signal(signal.SIGTERM)
    ended_lines = [line for line in exporter.log() if line["event"] == "connections ended"]
    assert [line["cause"] for line in ended_lines].count("too_many") == 1
    assert len(ended_lines) <= len(CAUSES)


def test_an_address_in_use_is_reported(exporter: Exporter) -> None:
    second = Exporter(exporter.path, exporter.port)
    _, stderr = second.process.communicate(timeout=60)
    assert second.process.returncode == 2
    assert f"cannot listen on 127.0.0.1:{exporter.port}: " in stderr
    assert "Traceback" not in stderr

"""`make demo` performs a real rollback in time, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from responder.decisions.guards import GUARDS
from tests.parts import need

REPOSITORY = Path(__file__).parents[2]
PARTS = 6  # shop and its supervisor, exporters, Prometheus, Alertmanager, responder
LONGEST = 90.0


@dataclass
class Demo:
    """A running demo, with every process and port that it used."""

    popen: subprocess.Popen[str]
    directory: Path
    seen: set[psutil.Process] = field(default_factory=set)
    ports: set[int] = field(default_factory=set)

    def watch(self) -> None:
        with suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self.popen.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    self.seen.add(process)
                    found = process.net_connections("inet")
                    self.ports |= {c.laddr.port for c in found if c.status == psutil.CONN_LISTEN}

    def until_parts(self, n: int) -> None:
        end = time.monotonic() + 30
        while len([p for p in self.seen if p.is_running()]) < n:
            assert self.popen.poll() is None, "it ended before it had started everything"
            assert time.monotonic() < end, f"only {len(self.seen)} processes were seen"
            self.watch()
            time.sleep(0.1)

    def output(self, within: float = LONGEST) -> str:
        done = threading.Event()

        def keep_watching() -> None:
            while not done.wait(0.5):
                self.watch()

        watching = threading.Thread(target=keep_watching)
        watching.start()
        try:
            return self.popen.communicate(timeout=within)[0]
        finally:
            done.set()
            watching.join()

    def assert_nothing_is_left(self) -> None:
        gone, left = psutil.wait_procs(self.seen, timeout=5)
        assert not left, f"{len(gone)} ended, still there: {[p.cmdline() for p in left]}"
        for port in self.ports:
            with socket.socket() as asking:
                assert asking.connect_ex(("127.0.0.1", port)) != 0, f"port {port} still answers"
        assert list(self.directory.iterdir()) == []


@contextmanager
def demo(directory: Path, **environment: str) -> Iterator[Demo]:
    temporary = directory / "tmp"
    temporary.mkdir()
    inherited = {name: value for name, value in os.environ.items() if name not in ("KEEP", "COLUMNS", "RESPONDER_URL")}
    popen = subprocess.Popen(
        [sys.executable, "-m", "examples.demo"],
        cwd=REPOSITORY,
        env=inherited | {"TMPDIR": str(temporary)} | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with popen:
        try:
            yield Demo(popen, temporary)
        finally:
            if popen.poll() is None:
                popen.terminate()


def test_a_bad_release_is_rolled_back_and_the_timeline_is_complete(tmp_path: Path) -> None:
    need("prometheus", "prometheus-alertmanager")
    began = time.monotonic()
    with demo(tmp_path) as running:
        output = running.output()
    assert running.popen.returncode == 0, output
    assert time.monotonic() - began < LONGEST
    stages = re.findall(r"^ +(\d+\.\d\d) s  (.+?)  ", output, re.MULTILINE)
    assert [name for _, name in stages][:3] == ["1.1 is live", "first failed check", "alert fires"]
    assert {name for _, name in stages[3:]} == {"received", "decided", "acted", "healthy", "verified"}
    assert f"{len(GUARDS)} guards evaluated, all allow: 1.1 → 1.0" in output
    spans = dict(
        re.findall(r"^(noticed|delivered|decided|rolled back|recovered|verified|total) +(\d+\.\d+) s", output, re.M)
    )
    assert len(spans) == 7
    total = float(spans.pop("total"))
    assert abs(sum(map(float, spans.values())) - total) < 0.01
    assert 4 < total < 40
    failed, of = map(int, re.search(r"(\d+) of (\d+) requests failed", output).groups())  # type: ignore[union-attr]
    assert 0 < failed < of / 2
    assert re.search(r"1\.1 → 1\.0 +succeeded", output)
    assert len(running.seen) >= PARTS
    assert len(running.ports) >= 5
    running.assert_nothing_is_left()


def test_ctrl_c_in_the_middle_stops_and_removes_everything(tmp_path: Path) -> None:
    need("prometheus", "prometheus-alertmanager")
    with demo(tmp_path) as running:
        running.until_parts(PARTS)
        running.popen.send_signal(signal.SIGINT)
        output = running.output(within=15)
    assert running.popen.returncode == 128 + signal.SIGINT, output
    assert "Everything is stopped and removed." in output
    assert "Traceback" not in output
    running.assert_nothing_is_left()


def test_with_keep_it_prints_commands_to_try_and_stops_on_request(tmp_path: Path) -> None:
    need("prometheus", "prometheus-alertmanager", "amtool")
    with demo(tmp_path, KEEP="1") as running:
        lines = []
        assert running.popen.stdout is not None
        for line in running.popen.stdout:
            lines.append(line)
            if "Press Ctrl-C" in line:
                break
        output = "".join(lines)
        running.watch()
        for command in re.findall(
            r"^(\S+responder (?:explain|status) .*|amtool .* silence add .*)$", output, re.MULTILINE
        ):
            tried = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=30, check=False)
            assert tried.returncode == 0, f"{command}\n{tried.stdout}{tried.stderr}"
        running.popen.terminate()
        assert "Everything is stopped and removed." in running.output(within=15)
    assert running.popen.returncode == 0
    assert output.count("/responder ") == 4
    running.assert_nothing_is_left()


def test_a_part_that_does_not_start_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("prometheus", "prometheus-alertmanager"):
        (programs / name).write_text(f"#!/bin/sh\necho '{name} has no mind to'\nexit 3\n")
        (programs / name).chmod(0o755)
    with demo(tmp_path, PATH=f"{programs}:{os.environ['PATH']}") as running:
        output = running.output(within=40)
    assert running.popen.returncode == 1, output
    assert "Alertmanager has ended with exit code 3" in output
    assert "prometheus-alertmanager has no mind to" in output
    assert "What to do: " in output
    assert "Traceback" not in output
    running.assert_nothing_is_left()


def test_missing_programs_are_reported_with_their_install_commands(tmp_path: Path) -> None:
    with demo(tmp_path, PATH=str(tmp_path)) as running:
        output = running.output(within=20)
    assert running.popen.returncode == 1, output
    assert "scripts/install-debian.sh prometheus\n" in output
    assert "scripts/install-debian.sh prometheus-alertmanager\n" in output
    running.assert_nothing_is_left()

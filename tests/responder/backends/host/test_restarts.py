"""Restarts that hang, fork, die or do nothing, in complete rollbacks of real directories with real processes."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from responder.backends.host.client import Local
from responder.rollback.events import Planned
from responder.rollback.execution import Execution
from tests.responder.backends.host.test_client import alive, gone
from tests.responder.harness import Rollback

NOTE = "basename $(readlink current) >> restarts; "
ONLY_2 = "test $(basename $(readlink current)) = 2"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[str]:
    """The URL of a service that is healthy unless the file `down` exists."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(503 if (tmp_path / "down").exists() else 200)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            """Stays quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def stocked(root: Path) -> Path:
    for version in ("1", "2"):
        (root / "releases" / version).mkdir(parents=True)
        (root / "releases" / version / "app").write_text(version)
    (root / "current").symlink_to("releases/2")
    return root


def rollback(root: Path, service: str, script: str, within: str = "20s") -> Rollback:
    release = {"root": str(root), "restart": ["/bin/sh", "-c", script], "restart_within": within}
    return Rollback({"strategy": "immediate", "release": release}, {Local: Local()}, health_checks=[{"http": service}])


def restarts(root: Path) -> list[str]:
    return (root / "restarts").read_text().split() if (root / "restarts").exists() else []


def left(root: Path) -> set[str]:
    return {path.name for path in root.iterdir()} - {"current", "releases", "restarts", "down", "filler"}


def reason(execution: Execution) -> str:
    return str(execution.reason)


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (f"{ONLY_2} || kill -9 $$", "exited with -9 (killed by SIGKILL)"),
        (f"{ONLY_2} || read answer </dev/tty", "exited with 2"),
        (f"{ONLY_2} || {{ head -c 50000000 /dev/zero | tr '\\0' x; echo at the end; exit 4; }}", "at the end"),
        (f"{ONLY_2} || exec /no/such/program", "exited with 127"),
    ],
    ids=["killed", "no terminal", "much output", "no program"],
)
async def test_a_restart_that_fails_is_reverted_with_its_reason(
    script: str, why: str, tmp_path: Path, service: str
) -> None:
    run = rollback(stocked(tmp_path), service, NOTE + script)
    execution = await run.run()
    assert execution.outcome == "reverted"
    assert why in reason(execution)
    assert restarts(tmp_path) == ["1", "2"]
    assert (tmp_path / "current").readlink() == Path("releases/2")
    assert left(tmp_path) == set()


async def test_a_restart_that_hangs_is_killed_once_and_reverted(tmp_path: Path, service: str) -> None:
    script = f"{NOTE} {ONLY_2} || {{ echo $$ > pid; sleep 600; }}"
    execution = await rollback(stocked(tmp_path), service, script, within="2s").run()
    assert execution.outcome == "reverted"
    assert "did not end within 2 s" in reason(execution)
    assert restarts(tmp_path) == ["1", "2"]
    assert await gone(int((tmp_path / "pid").read_text()))


async def test_a_restart_that_always_hangs_stops_and_is_not_repeated(tmp_path: Path, service: str) -> None:
    execution = await rollback(stocked(tmp_path), service, f"{NOTE} sleep 600", within="2s").run()
    assert execution.state == "stuck"
    assert "did not end within 2 s" in reason(execution)
    assert restarts(tmp_path) == ["1", "2"]
    assert left(tmp_path) == {".current.not-followed-yet"}


async def test_a_restart_that_succeeds_while_the_service_is_down_is_no_success(tmp_path: Path, service: str) -> None:
    """The good version is unhealthy as well: a person decides."""
    script = f"{NOTE} rm -f down; {ONLY_2} || touch down"
    execution = await rollback(stocked(tmp_path), service, script).run()
    assert execution.state == "stuck"
    assert "503" in reason(execution)
    assert restarts(tmp_path) == ["1"]


DAEMON = """
import os, pathlib, sys, time
os.setsid()
pathlib.Path("pid").write_text(str(os.getpid()))
while True:
    print("still here", flush=True)
    pathlib.Path("lines").open("a").write("x")
    time.sleep(0.05)
"""


async def test_a_daemon_that_prints_survives_its_restart(tmp_path: Path, service: str) -> None:
    """Nobody reads its output any more: the next line must not end it."""
    (stocked(tmp_path) / "daemon.py").write_text(DAEMON)
    script = f"{NOTE} {sys.executable} daemon.py & while [ ! -e pid ]; do sleep 0.05; done"
    try:
        execution = await rollback(tmp_path, service, script).run()
        assert execution.outcome == "succeeded"
        before = (tmp_path / "lines").stat().st_size
        for _ in range(2000):
            if (tmp_path / "lines").stat().st_size > before + 20:
                break
            await asyncio.sleep(0.01)
        assert (tmp_path / "lines").stat().st_size > before + 20
        assert alive(int((tmp_path / "pid").read_text()))
    finally:
        pid = int((tmp_path / "pid").read_text())
        os.kill(pid, 9)
        assert await gone(pid)


@contextlib.contextmanager
def small_disk(directory: Path) -> Iterator[Path]:
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k,nr_inodes=60", "tmpfs", str(directory)]
    subprocess.run(mount, check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", str(directory)], check=True)


def no_space(root: Path) -> None:
    with contextlib.suppress(OSError), (root / "filler").open("wb") as filler:
        while True:
            filler.write(b"x" * 4096)
            filler.flush()


def one_inode(root: Path) -> None:
    """Enough for the note of the pending restart, not for the new link."""
    (root / "filler").mkdir()
    with contextlib.suppress(OSError):
        for number in range(100):
            (root / "filler" / str(number)).symlink_to("nowhere")
    (root / "filler" / "0").unlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a small disk")
@pytest.mark.parametrize("fill", [no_space, one_inode])
async def test_a_disk_that_fills_up_after_planning_changes_and_restarts_nothing(
    fill: Callable[[Path], None], tmp_path: Path, service: str
) -> None:
    with small_disk(tmp_path / "disk") as root:
        run = rollback(stocked(root), service, f"{NOTE} true", within="1s")
        task = asyncio.create_task(run.run())
        while not any(isinstance(event, Planned) for event in run.record.events):
            await asyncio.sleep(0)
        fill(root)
        execution = await task
        assert execution.outcome == "failed"
        assert "No space left on device" in reason(execution)
        assert (root / "current").readlink() == Path("releases/2")
        assert (restarts(root), left(root)) == ([], set())


async def test_a_release_that_is_removed_after_planning_fails_without_changes(tmp_path: Path, service: str) -> None:
    run = rollback(stocked(tmp_path), service, f"{NOTE} true")
    plan = await run.plan()
    (tmp_path / "releases" / "1").rename(tmp_path / "releases" / "gone")

    async def planned() -> Any:
        return plan

    run.plan = planned  # type: ignore[method-assign]
    execution = await run.run()
    assert execution.outcome == "failed"
    assert "release 1 does not exist" in reason(execution)
    assert (restarts(tmp_path), left(tmp_path)) == ([], set())

"""A command ends by its deadline with its whole process group, and links and files change atomically."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from responder.backends.host.client import Local
from responder.backends.host.release_directory import link_target
from responder.errors import StepFailed, Unavailable

LOCAL = Local()


async def run(*argv: str, within: float = 5.0, cwd: Path | None = None) -> str:
    return await LOCAL.run(argv, within=within, cwd=cwd)


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


async def gone(pid: int) -> bool:
    for _ in range(200):
        if not alive(pid):
            return True
        await asyncio.sleep(0.005)
    return False


# --- commands ---
async def test_output_of_a_command_is_returned(tmp_path: Path) -> None:
    assert await run("sh", "-c", "echo out; echo err >&2; pwd", cwd=tmp_path) == f"out\nerr\n{tmp_path}"


async def test_a_nonzero_exit_code_fails_with_the_end_of_the_output() -> None:
    with pytest.raises(StepFailed, match=r"sh -c echo why; exit 3 exited with 3: why"):
        await run("sh", "-c", "echo why; exit 3")


async def test_a_failure_without_output_is_reported() -> None:
    with pytest.raises(StepFailed, match=r"exited with 1: \(no output\)"):
        await run("false")


async def test_a_killed_command_fails() -> None:
    with pytest.raises(StepFailed, match="exited with -9"):
        await run("sh", "-c", "kill -9 $$")


@pytest.mark.parametrize("program", ["/no/such/program", "no-such-program", "/etc/passwd", "/"])
async def test_a_program_that_cannot_be_started_fails(program: str) -> None:
    with pytest.raises(StepFailed, match=f"{program} cannot be started"):
        await run(program)


async def test_only_the_tail_of_the_output_is_kept() -> None:
    output = await run(sys.executable, "-c", "print('head', 'x' * 100_000, 'tail')")
    assert output.endswith("xxx tail")
    assert len(output) <= 2000


async def test_binary_output_does_not_crash() -> None:
    assert "�" in await run("printf", r"\377\376 ok")


async def test_large_output_does_not_block_the_command() -> None:
    assert await run("sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x; echo end") != ""


async def test_a_command_has_no_terminal() -> None:
    assert await run("sh", "-c", "read answer || echo nobody there") == "nobody there"


async def test_the_process_group_is_killed_at_the_deadline(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"sleep 60 & echo $! > {pids}; echo $$ >> {pids}; wait"
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"did not end within 0.3 s"):
        await run("sh", "-c", script, within=0.3)
    assert time.monotonic() - began < 50  # not the minute that it would take
    for pid in map(int, pids.read_text().split()):
        assert await gone(pid)


async def test_a_command_that_ignores_sigterm_is_killed() -> None:
    with pytest.raises(Unavailable):
        await run("sh", "-c", "trap '' TERM; sleep 60", within=0.1)


async def test_a_cancelled_command_is_killed(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    task = asyncio.create_task(run("sh", "-c", f"sleep 60 & echo $! > {pids}.new; mv {pids}.new {pids}; wait"))
    while not pids.exists():
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await gone(int(pids.read_text()))


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Path]:
    """The file in which a command under test writes the PIDs of its daemons; they are killed afterwards."""
    pids = tmp_path / "pids"
    yield pids
    for pid in map(int, pids.read_text().split()):
        os.kill(pid, 9)
        assert await gone(pid)
    await asyncio.sleep(0.02)  # its end of the pipe is closed: let the loop notice


async def test_a_daemon_of_a_command_keeps_running(daemon: Path) -> None:
    assert await run("sh", "-c", f"sleep 60 & echo $! > {daemon}; echo started", within=1.5) == "started"
    assert alive(int(daemon.read_text()))


async def test_a_daemon_of_a_command_leaks_no_file_descriptor(daemon: Path) -> None:
    before = open_files()
    for _ in range(3):
        await run("sh", "-c", f"sleep 60 & echo $! >> {daemon}", within=1.5)
    assert open_files() <= before + 1


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


# --- links and files ---
async def test_a_link_points_to_its_target(tmp_path: Path) -> None:
    link = tmp_path / "current"
    assert link_target(link) is None
    await LOCAL.switch_link(link, tmp_path / "releases" / "2.0")
    assert link_target(link) == tmp_path / "releases" / "2.0"
    assert link.readlink() == Path("releases/2.0"), "relative, so that the tree can be moved"
    await LOCAL.switch_link(link, tmp_path / "releases" / "2.1")
    assert link_target(link) == tmp_path / "releases" / "2.1"
    assert [p.name for p in tmp_path.iterdir()] == ["current"], "nothing is left beside it"


async def test_a_link_is_replaced_atomically(tmp_path: Path) -> None:
    link, seen, stop = tmp_path / "current", set(), threading.Event()
    await LOCAL.switch_link(link, tmp_path / "0")

    def look() -> None:
        while not stop.is_set():
            try:
                seen.add(os.readlink(link))  # noqa: PTH115
            except FileNotFoundError:
                seen.add("none")

    looking = threading.Thread(target=look)
    looking.start()
    for n in range(60):
        await LOCAL.switch_link(link, tmp_path / str(n % 2))
    stop.set()
    looking.join()
    assert seen <= {"0", "1"}


async def test_a_plain_file_or_directory_is_not_a_link(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for there in (tmp_path / "file", tmp_path):
        with pytest.raises(StepFailed, match="is not a symbolic link"):
            link_target(there)


async def test_text_is_written_completely_and_read_without_whitespace(tmp_path: Path) -> None:
    file = tmp_path / "live"
    assert await LOCAL.text(file) is None
    await LOCAL.write_text(file, "blue")
    assert file.read_text() == "blue\n"
    assert await LOCAL.text(file) == "blue"
    await LOCAL.write_text(file, "grün")
    assert await LOCAL.text(file) == "grün"
    assert [p.name for p in tmp_path.iterdir()] == ["live"]


async def test_an_unreadable_text_file_fails(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StepFailed, match="cannot be read"):
        await LOCAL.text(tmp_path)
    with pytest.raises(StepFailed, match="cannot be read"):
        await LOCAL.text(tmp_path / "binary")


async def test_a_failed_replacement_leaves_the_file_unchanged(tmp_path: Path) -> None:
    (tmp_path / "live").mkdir()
    (tmp_path / "live" / "x").touch()
    with pytest.raises(Unavailable, match="live cannot be replaced"):
        await LOCAL.write_text(tmp_path / "live", "blue")
    with pytest.raises(Unavailable, match="cannot be replaced"):
        await LOCAL.switch_link(tmp_path / "nowhere" / "current", tmp_path)
    assert (tmp_path / "live" / "x").exists()


async def test_a_failed_replacement_leaves_no_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "live").mkdir()
    with pytest.raises(Unavailable):
        await LOCAL.write_text(tmp_path / "live", "blue")
    assert [p.name for p in tmp_path.iterdir()] == ["live"]


async def test_a_file_keeps_its_mode_when_it_is_replaced(tmp_path: Path) -> None:
    """A proxy of another user may read the pointer."""
    file = tmp_path / "live"
    file.write_text("blue\n")
    file.chmod(0o640)
    await LOCAL.write_text(file, "green")
    assert file.stat().st_mode & 0o777 == 0o640


async def test_leftovers_of_a_crash_are_overwritten(tmp_path: Path) -> None:
    (tmp_path / f".current.{os.getpid()}.new").symlink_to("half")
    await LOCAL.switch_link(tmp_path / "current", tmp_path / "2.0")
    assert (tmp_path / "current").readlink() == Path("2.0")


async def test_removing_a_missing_file_succeeds(tmp_path: Path) -> None:
    await LOCAL.remove(tmp_path / "none")
    (tmp_path / "one").touch()
    await LOCAL.remove(tmp_path / "one")
    assert not (tmp_path / "one").exists()

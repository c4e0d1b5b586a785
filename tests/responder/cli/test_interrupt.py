"""Ctrl-C at any point ends every command within a second, without a traceback."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from foundation import interrupt
from tests.parts import free_port, until
from tests.responder.cli.test_main import alone, begin  # noqa: F401
from tests.responder.web.conftest import ResponderServer

ROOT = Path(__file__).parents[3]
INTERRUPTER = Path(__file__).with_name("interrupter.py")
LAST_WORDS = "\nthe rollback continues; follow it again: responder watch r1\n"
CONFIG = """\
state: sqlite:///{directory}/state.db
prometheus: {{url: "{silent}"}}
alertmanager: {{urls: ["{silent}"]}}
"""


async def interrupted(
    program: str, where: str, *argv: str, first: int = 1, step: int = 1, most: int = 1, **environment: str
) -> list[dict[str, Any]]:
    """The result of a command at each point; all ended by themselves without a traceback."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(INTERRUPTER), program, where, *map(str, (first, step, most)), *argv,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "TERM": "xterm", **environment},
        stdout=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0
    answers: list[dict[str, Any]] = [json.loads(line) for line in out.splitlines()]
    for answer in answers:
        assert "Traceback" not in answer["err"], answer
        assert "Exception" not in answer["err"], answer
    reached = [answer for answer in answers if answer["reached"]]
    assert reached
    # The last point is in the interpreter's shutdown: the command may have ended with its own exit code.
    own = {answer["code"] for answer in answers if not answer["reached"]}
    for answer in reached:
        assert answer["code"] == interrupt.EXIT_CODE or (answer is reached[-1] and answer["code"] in own), answer
    return answers


@pytest.fixture
async def silent() -> AsyncIterator[str]:
    """host:port of a server that accepts and never answers."""
    writers: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: writers.append(writer), "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    yield f"{host}:{port}"
    server.close()
    for writer in writers:
        writer.close()


def url_of(responder: ResponderServer) -> str:
    return str(responder.client.make_url("/")).rstrip("/")


COMMANDS = [("responder", "status"), ("exporters", "check")]


def nowhere(program: str, command: str) -> tuple[str, ...]:
    return (command, *(("--url", f"http://127.0.0.1:{free_port()}") if program == "responder" else ()))


@pytest.mark.parametrize(("program", "command"), COMMANDS)
async def test_during_the_imports(program: str, command: str) -> None:
    await interrupted(program, "import", *nowhere(program, command), step=97, most=300)


@pytest.mark.soak
@pytest.mark.parametrize(("program", "command"), COMMANDS)
async def test_at_each_import(program: str, command: str) -> None:
    answers = await interrupted(program, "import", *nowhere(program, command), most=5000)
    assert not answers[-1]["reached"]


@pytest.mark.parametrize("terminal", [{}, {"FORCE_COLOR": "1"}], ids=["lines", "drawn"])
@pytest.mark.parametrize("step", [11, pytest.param(1, marks=pytest.mark.soak)])
async def test_at_an_await_of_watch(responder: ResponderServer, step: int, terminal: dict[str, str]) -> None:
    await begin(responder)
    answers = await interrupted(
        "responder", "await", "watch", "r1", "--url", url_of(responder), first=3, step=step, most=110, **terminal
    )
    for answer in answers:
        assert answer["err"] == LAST_WORDS or answer["n"] < 20  # the first ones arrive before it knows the execution
    assert len(answers) > 5


async def test_just_before_the_event_loop_sleeps(responder: ResponderServer) -> None:
    """asyncio's own handler delays this signal until something else wakes the loop, such as the next heartbeat."""
    await begin(responder)
    (answer,) = await interrupted("responder", "asleep", "watch", "r1", "--url", url_of(responder))
    assert answer["err"] == LAST_WORDS


@pytest.mark.parametrize("where", ["main", "swallowed", "dns", "asleep"])
async def test_while_it_hangs(where: str, silent: str) -> None:
    url = "http://shop.invalid" if where == "dns" else f"http://{silent}"
    (answer,) = await interrupted("responder", where, "watch", "r1", "--url", url)
    assert answer["err"] == LAST_WORDS


async def test_during_the_tls_handshake(silent: str) -> None:
    await interrupted("responder", "asleep", "status", "--url", f"https://{silent}")


async def test_at_its_exit() -> None:
    await interrupted("responder", "exit", *nowhere("responder", "status"))


async def test_while_nobody_reads_its_output(responder: ResponderServer) -> None:
    await begin(responder)
    await interrupted("responder", "pipe", "watch", "r1", "--url", url_of(responder))


@pytest.mark.parametrize("step", [37, pytest.param(1, marks=pytest.mark.soak)])
async def test_at_an_await_of_a_local_command(silent: str, tmp_path: Path, step: int) -> None:
    (tmp_path / "responder.yml").write_text(CONFIG.format(directory=tmp_path, silent=f"http://{silent}"))
    config = ("--config", str(tmp_path / "responder.yml"))
    for where in ("await", "dns" if step == 1 else "asleep"):
        answers = await interrupted("responder", where, "check", "--live", *config, step=step, most=200)
        assert not any(answer["err"] for answer in answers)


@pytest.mark.parametrize("where", ["swallowed", "main"])
async def test_a_command_that_swallows_its_cancellation(where: str, silent: str, tmp_path: Path) -> None:
    (tmp_path / "responder.yml").write_text(CONFIG.format(directory=tmp_path, silent=f"http://{silent}"))
    await interrupted("responder", where, "check", "--live", "--config", str(tmp_path / "responder.yml"))


async def test_a_probe_ends_its_child_process(tmp_path: Path) -> None:
    """The program has its own session, so the terminal's Ctrl-C does not reach it."""
    started = tmp_path / "started"
    script = f"echo $$ >{started}.new; mv {started}.new {started}; exec sleep 600"
    check = {"id": "c", "service": "s", "environment": "e", "type": "custom", "command": ["/bin/sh", "-c", script]}
    (tmp_path / "e.yml").write_text(json.dumps({"checks": [{**check, "interval": "2m", "timeout": "100s"}]}))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "exporters", "probe", "c", "--config", str(tmp_path / "e.yml"), cwd=ROOT,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip

    async def has_started() -> bool:
        assert process.returncode is None
        return started.exists()

    try:
        await until(has_started, within=60)
        process.send_signal(signal.SIGINT)
        out, _ = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()
    assert (process.returncode, out) == (130, b"")

    async def is_gone() -> bool:
        return not Path(f"/proc/{started.read_text().strip()}").exists()

    await until(is_gone, within=60)

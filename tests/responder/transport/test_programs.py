"""No child process inherits the environment, which contains secrets."""

from __future__ import annotations

import ast
import contextlib
from pathlib import Path

import pytest

from responder.backends.host.client import Local
from responder.backends.host.logs_client import Host
from responder.backends.postgres.snapshots.streams import output_of
from responder.transport.programs import KEPT, environment, program, version_output

ROOT = Path(__file__).parents[3]
OURS = ("PG", "AWS_", "RESPONDER_")
STARTS = {"create_subprocess_exec", "create_subprocess_shell", "Popen", "run", "call", "check_call", "check_output"}
STARTS |= {"system", "popen", "posix_spawn", "posix_spawnp", "fork", "forkpty", "subprocess_exec", "subprocess_shell"}


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RESPONDER_TOKEN", "PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "SLACK_TOKEN", "LD_PRELOAD_NOT"):
        monkeypatch.setenv(name, "a-secret")
    for name in ("LC_TIME", "TZ", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "HOME"):
        monkeypatch.setenv(name, f"the-{name}")
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("DEPLOY_ENV", "production")


def seen(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


async def of_local(passed: tuple[str, ...] = ()) -> dict[str, str]:
    return seen(await (await Local.connect(passed)).run(("env",), within=10))


async def of_host() -> dict[str, str]:
    async with contextlib.aclosing(Host().stream_output("env")) as chunks:
        return seen(b"".join([chunk async for chunk in chunks]).decode())


async def of_program() -> dict[str, str]:
    return seen((await program(("env",), within=10, cwd=None, env=environment()))[1])


async def of_stream() -> dict[str, str]:
    async with contextlib.aclosing(output_of(["env"], environment())) as blocks:
        return seen(b"".join([block async for block in blocks]).decode())


@pytest.mark.parametrize("start", [of_local, of_host, of_program, of_stream])
async def test_a_child_process_sees_only_allowed_variables(start: object) -> None:
    env = await start()  # type: ignore[operator]
    assert "a-secret" not in env.values()
    assert env.keys() - {"PWD", "SHLVL", "_"} <= {*KEPT, "LC_TIME"} | {n for n in env if n.startswith("LC_")}
    passed = {n: env[n] for n in ("LC_TIME", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "HOME")}
    assert passed == {n: f"the-{n}" for n in passed}
    assert "PATH" in env


async def test_configured_variables_are_passed() -> None:
    env = await of_local(("DEPLOY_ENV", "NOT_SET"))
    assert (env["DEPLOY_ENV"], env.get("NOT_SET"), env.get("RESPONDER_TOKEN")) == ("production", None, None)


def test_version_queries_see_no_secrets(tmp_path: Path) -> None:
    program = tmp_path / "asked"
    program.write_text("#!/bin/sh\nenv\n")
    program.chmod(0o755)
    assert "a-secret" not in version_output(str(program))


def test_a_default_path_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PATH")
    assert environment()["PATH"]


def spawning(file: Path) -> list[str]:
    """Calls in this file that start a process."""
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in STARTS:
            owner = ast.unparse(node.func.value)
            if owner in ("subprocess", "os", "pty", "loop") or "subprocess" in node.func.attr:
                found.append(f"{file.relative_to(ROOT)}: {owner}.{node.func.attr}")
        if isinstance(node, ast.ImportFrom) and node.module == "subprocess":
            found.append(f"{file.relative_to(ROOT)}: from subprocess import")
    return found


def test_only_one_module_starts_processes() -> None:
    assert sorted(line for file in (ROOT / "responder").rglob("*.py") for line in spawning(file)) == [
        "responder/transport/programs.py: asyncio.create_subprocess_exec",
        "responder/transport/programs.py: subprocess.run",
    ]
    assert [line for file in (ROOT / "exporters").rglob("*.py") for line in spawning(file)] == [
        "exporters/probes/custom.py: asyncio.create_subprocess_exec"
    ]

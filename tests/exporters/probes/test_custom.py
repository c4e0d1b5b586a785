"""Commands that succeed, and all ways in which they fail."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

SLEEP = "import time; time.sleep(60)"


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def running(mark: str) -> list[int]:
    return [p.pid for p in psutil.process_iter(["cmdline", "status"]) if mark in (p.info["cmdline"] or [])]


async def test_exit_code_zero_is_success(ask: Any) -> None:
    result, series = await ask(type="custom", command=["true"])
    assert (result.success, series["probe_custom_exit_code"]) == (True, 0)


async def test_another_exit_code_is_a_failure(ask: Any) -> None:
    result, series = await ask(type="custom", command=python("import sys; print('why', file=sys.stderr); sys.exit(3)"))
    assert (result.reason, series["probe_custom_exit_code"]) == ("exit", 3)
    assert any("stderr: why" in line for _, line in result.log)


@pytest.mark.parametrize(
    ("fields", "printed", "value"),
    [
        ({"value": "number"}, " 12.5\n", 12.5),
        ({"value": "json", "json_path": "$.a[0].ms"}, '{"a": [{"ms": 7}]}', 7),
        ({"value": "prometheus", "sample": "up"}, "# TYPE up gauge\nup 1\n", 1),
        ({"value": "prometheus", "sample": 'q{n="b"}'}, 'q{n="a"} 1\nq{n="b",x="y"} 2\n', 2),
        ({"value": "number", "at_least": 5, "at_most": 5}, "5", 5),
    ],
)
async def test_a_value_is_read(ask: Any, fields: dict[str, Any], printed: str, value: float) -> None:
    result, series = await ask(type="custom", command=["printf", "%s", printed], **fields)
    assert (result.success, series["probe_custom_value"]) == (True, value), result.why


@pytest.mark.parametrize(
    ("fields", "printed", "reason"),
    [
        ({"value": "number"}, "many", "output"),
        ({"value": "number"}, "", "output"),
        ({"value": "json", "json_path": "a"}, '{"b": 1}', "output"),
        ({"value": "json", "json_path": "a"}, '{"a": true}', "output"),
        ({"value": "json", "json_path": "a"}, "[" * 20000, "output"),
        ({"value": "prometheus", "sample": "q"}, 'q{n="a"} 1\nq{n="b"} 2\n', "output"),
        ({"value": "prometheus", "sample": "gone"}, "up 1\n", "output"),
        ({"value": "number", "at_most": 5}, "5.1", "threshold"),
        ({"value": "number", "at_least": 5}, "4.9", "threshold"),
        ({"value": "number", "at_most": 5}, "nan", "threshold"),
        ({"value": "number", "at_least": 5}, "nan", "threshold"),
    ],
)
async def test_values_out_of_bounds_fail(ask: Any, fields: dict[str, Any], printed: str, reason: str) -> None:
    result, _ = await ask(type="custom", command=["printf", "%s", printed], **fields)
    assert result.reason == reason


async def test_a_command_that_never_ends_is_killed_with_its_children(ask: Any) -> None:
    mark = "exporters-test-never-ends"
    child = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', '{SLEEP}', '{mark}'])"
    command = [*python(f"{child}; print('x', flush=True); time.sleep(60)"), mark]
    result, _ = await ask(type="custom", command=command, timeout="500ms")
    assert result.reason == "timeout"
    await gone(mark)


async def test_children_that_outlive_the_command_are_killed(ask: Any) -> None:
    mark = "exporters-test-outlives"
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', '{SLEEP}', '{mark}'])"
    result, _ = await ask(type="custom", command=python(f"{code}; print(1)"), value="number")
    assert result.success, result.why
    await gone(mark)


async def test_a_child_in_its_own_session_does_not_delay_the_result(ask: Any) -> None:
    mark = "exporters-test-escapes"
    code = (
        "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(2)', "
        f"'{mark}'], start_new_session=True); print(5)"
    )
    result, series = await ask(type="custom", command=python(code), value="number", timeout="5s")
    assert (result.success, series["probe_custom_value"]) == (True, 5.0)
    assert result.duration < 2
    for pid in running(mark):
        psutil.Process(pid).kill()


async def gone(mark: str) -> None:
    for _ in range(100):
        if not running(mark):
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"still running: {running(mark)}")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
async def test_endless_output_is_cut_off(ask: Any, stream: str) -> None:
    code = f"import sys\nwhile True: sys.{stream}.write('x' * 10000)"
    result, _ = await ask(type="custom", command=python(code))
    assert (result.reason, "more than 65536 bytes" in result.why) == ("output", True)


async def test_arguments_are_not_read_by_a_shell(ask: Any, tmp_path: Path) -> None:
    await ask(type="custom", command=["echo", "$(touch", f"{tmp_path}/x);", "|", "touch", f"{tmp_path}/y"])
    assert list(tmp_path.iterdir()) == []


async def test_the_command_sees_only_its_own_environment(ask: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("OTHERS_SECRET", "s3cret-other")
    code = "import os, sys; sys.exit(f'{sorted(os.environ)} {os.environ[\"TOKEN\"]}')"
    result, _ = await ask(type="custom", command=python(code), env={"TOKEN": "s3cret-token"})
    log = " ".join(line for _, line in result.log)
    assert "OTHERS_SECRET" not in log
    assert "TOKEN" in log
    assert "s3cret" not in log

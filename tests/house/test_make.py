"""The output of `make demo` and `make test`: one line per step, and pip's output only if pip fails."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOISE = "WARNING: Location 'https://packages.example/extra' is ignored"


def installed(venv: Path, code: int) -> subprocess.CompletedProcess[str]:
    """scripts/make-venv.sh with a pip that prints warnings and exits with this code."""
    python = venv / "bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho "{NOISE}"\necho "{NOISE}" >&2\nexit {code}\n')
    python.chmod(0o755)
    return subprocess.run(
        ["sh", "scripts/make-venv.sh", str(venv)], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_one_line_per_step(tmp_path: Path) -> None:
    ran = installed(tmp_path / "venv", 0)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.splitlines() == [
        f"installing the locked versions into {tmp_path}/venv ...",
        f"installing this project into {tmp_path}/venv ...",
    ]
    assert NOISE in (tmp_path / "venv/pip.log").read_text()


@pytest.mark.parametrize("code", [1, 2])
def test_the_output_of_a_failed_pip(tmp_path: Path, code: int) -> None:
    ran = installed(tmp_path / "venv", code)
    assert ran.returncode == 1
    assert ran.stdout.count("\n") == 1
    assert ran.stderr.splitlines() == [NOISE, NOISE, f"pip failed; its output is above and in {tmp_path}/venv/pip.log"]


def test_only_one_fixture_is_the_postgres_of_a_session() -> None:
    """Another conftest would start another server, without the template database of journals."""
    starting = [
        str(file.relative_to(ROOT))
        for file in (ROOT / "tests").rglob("*.py")
        if file != Path(__file__) and re.search(r"(import|def) postgres_server\b", file.read_text())
    ]
    assert sorted(starting) == ["tests/conftest.py", "tests/journals.py"]

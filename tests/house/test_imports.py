"""What a command may import: a package that it does not need costs time at the start, and memory for ever."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SDKS = {
    "aiodocker",
    "asyncpg",
    "boto3",
    "botocore",
    "cryptography",
    "dateparser",
    "google.auth",
    "jwt",
    "kubernetes",
    "numpy",
    "pandas",
    "prometheus_api_client",
    "psutil",
    "pygal",
    "redis",
    "requests",
    "sqlglot",
}
SERVER = {"bcrypt", "jinja2", "prometheus_client", "re2", "responder.app", "responder.backends", "responder.web"}


def imported(argv: Iterable[str]) -> set[str]:
    """The modules that a command imports."""
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", *argv],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": ""},
        check=False,
    )
    return modules(ran.stderr)


def modules(report: str) -> set[str]:
    """The names in a report of `python -X importtime`."""
    lines = (line.split("|") for line in report.splitlines() if line.startswith("import time:"))
    found = {parts[2].strip() for parts in lines if len(parts) == 3}
    assert "responder" in found or "exporters" in found, report
    return found


def among(names: set[str], packages: set[str]) -> set[str]:
    """The names that belong to one of the packages."""
    return {name for name in names for package in packages if name == package or name.startswith(f"{package}.")}


@pytest.mark.parametrize("argv", [("--help",), ("--version",), ("--color",), ("rolback",)])
def test_the_list_of_commands_imports_only_the_parser(argv: tuple[str, ...]) -> None:
    rest = {"aiohttp", "asyncio", "pydantic", "rich", "ssl", "yaml"}
    assert among(imported(("responder", *argv)), SDKS | SERVER | rest) == set()


@pytest.mark.parametrize("command", ["status", "history", "deployed shop 1.0", "explain", "evidence x"])
def test_a_command_that_asks_the_responder_imports_no_server(command: str) -> None:
    loaded = imported(("responder", *command.split(), "--url", "http://127.0.0.1:9"))
    assert "aiohttp.client" in loaded
    assert among(loaded, SDKS | SERVER) == set()

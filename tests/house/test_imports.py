"""What a command may import: a package that it does not need costs time at the start, and memory for ever."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path

import pytest

from tests.parts import Process, free_port, until

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


CONFIG = """\
state: sqlite://{directory}/state.db
prometheus: {{url: "http://127.0.0.1:9"}}
alertmanager: {{urls: ["http://127.0.0.1:9"]}}
web: {{listen: "127.0.0.1:{port}"}}
services:
  - name: shop
    environment: production
    rollback: {{strategy: immediate, release: {{root: {directory}/shop}}}}
    health_checks: [http: "http://127.0.0.1:9"]
policies:
  - name: errors
    match: ['alertname="Errors"']
    roll_back: {{label: service}}
"""
UNUSED = SDKS | {"aiosmtplib", "email.mime", "jinja2", "responder.notify.channels.slack", "rich"}
"""Nothing in CONFIG needs one of these."""


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def config(tmp_path: Path, port: int) -> Path:
    (tmp_path / "shop/releases/1").mkdir(parents=True)
    (tmp_path / "shop/current").symlink_to("releases/1")
    file = tmp_path / "responder.yml"
    file.write_text(CONFIG.format(directory=tmp_path, port=port))
    return file


def test_a_check_imports_only_what_the_configuration_names(config: Path) -> None:
    loaded = imported(("responder", "check", "--config", str(config)))
    assert "responder.app.settings" in loaded
    assert among(loaded, UNUSED - {"rich"}) == set()


def test_a_command_that_asks_no_server_imports_no_client(config: Path) -> None:
    (config.parent / "kept").mkdir()
    with config.open("a") as file:
        file.write(f"snapshots: [{{name: vault, directory: {config.parent}/kept}}]\n")
    loaded = imported(("responder", "snapshots", "list", "--config", str(config)))
    assert "responder.backends.postgres.snapshots.client" in loaded
    assert among(loaded, UNUSED - {"rich"} | {"aiohttp"}) == set()


@contextlib.asynccontextmanager
async def serving(
    config: Path, port: int, program: str = "responder"
) -> AsyncIterator[Callable[[], Awaitable[set[str]]]]:
    """A server that is ready. Returns what it has imported so far."""
    log, ready = config.with_name("log"), f"http://127.0.0.1:{port}/-/ready"
    argv = [sys.executable, "-X", "importtime", "-m", program, "serve", "--config", str(config)]
    process = await Process.start(argv, log=log, ready=ready, env={"PYTHONPATH": str(ROOT)})

    async def loaded() -> set[str]:
        return modules(log.read_text())

    try:
        yield loaded
    finally:
        await process.terminate()


async def test_an_idle_server_imports_only_what_the_configuration_names(config: Path, port: int) -> None:
    async with serving(config, port) as loaded:
        assert "responder.journal.sqlite.database" in await loaded()
        assert among(await loaded(), UNUSED) == set()


async def test_an_idle_server_imports_the_packages_of_its_services(config: Path, port: int) -> None:
    """In a thread: on first use, an import would stop the event loop for up to a second, in an emergency."""
    release = f"release: {{root: {config.parent}/shop}}"
    config.write_text(config.read_text().replace(release, "kubernetes: {namespace: shop, deployment: shop}"))
    async with serving(config, port) as loaded:
        await until(loaded, lambda names: "kubernetes.aio.config" in names)


EXPORTERS = """\
listen: "127.0.0.1:{port}"
checks:
  - {{id: shop, service: shop, environment: production, type: http_response, url: "http://127.0.0.1:9"}}
"""


async def test_idle_exporters_import_only_what_their_checks_need(tmp_path: Path, port: int) -> None:
    config = tmp_path / "exporters.yml"
    config.write_text(EXPORTERS.format(port=port))
    async with serving(config, port, "exporters") as loaded:
        assert "exporters.clients.http" in await loaded()
        assert among(await loaded(), UNUSED - {"psutil"} | {"re2", "responder"}) == set()

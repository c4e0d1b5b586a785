"""Real servers on loopback for the probes: healthy, failing and dead ones."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from pydantic_core import to_json

from exporters.clients.connections import Connections
from exporters.probes import AnyCheck
from exporters.probes.check import Check
from exporters.runner import Result
from foundation.redaction import Redactor
from tests.exporters.not_stalled import run_not_stalled

POSTGRES = Path("/usr/lib/postgresql/15/bin")
Conversation = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
ProbeResult = tuple[Result, dict[str, float]]
ADAPTER: TypeAdapter[Any] = TypeAdapter(AnyCheck)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def port() -> int:
    """A closed port."""
    return free_port()


@pytest.fixture
def make() -> Callable[..., Check]:
    """Makes a check with these fields, as from YAML."""

    def made(**fields: Any) -> Check:
        defaults = {"id": "it", "service": "shop", "environment": "test", "timeout": "5s", "interval": "5s"}
        return ADAPTER.validate_json(to_json(defaults | fields))

    return made


@pytest.fixture
async def connections() -> AsyncIterator[Connections]:
    connections = Connections(Redactor())
    yield connections
    await connections.close()


@pytest.fixture
def ask(make: Callable[..., Check], connections: Connections) -> Callable[..., Awaitable[ProbeResult]]:
    """Runs a check with these fields once; returns the result and the series by `name` or `name{label value}`."""

    async def run_check(**fields: Any) -> ProbeResult:
        check = make(**fields)
        connections.redact = Redactor(check.secrets())
        result, output = await run_not_stalled(check, connections)
        series = {
            sample.name + "".join(f"{{{value}}}" for value in sample.labels.values()): sample.value
            for family in output.collect()
            for sample in family.samples
        }
        assert series["probe_success"] == float(result.success)
        reasons = {name.removeprefix("probe_failed_due_to_") for name, v in series.items() if "due_to" in name and v}
        assert reasons == ({result.reason} if not result.success else set())
        return result, series

    return run_check


@pytest.fixture
async def talk() -> AsyncIterator[Callable[..., Awaitable[int]]]:
    """Starts a TCP server that runs this conversation with every client; returns its port."""
    servers: list[asyncio.Server] = []
    conversations: set[asyncio.Task[None]] = set()

    async def started(conversation: Conversation, tls: ssl.SSLContext | None = None) -> int:
        async def held(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task
            conversations.add(task)
            try:
                with suppress(OSError, asyncio.CancelledError):
                    await conversation(reader, writer)
            finally:
                conversations.discard(task)
                writer.transport.abort()

        server = await asyncio.start_server(held, "127.0.0.1", 0, ssl=tls)
        servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    yield started
    for server in servers:
        server.close()
    for task in [*conversations]:
        task.cancel()
    await asyncio.gather(*conversations, return_exceptions=True)


@pytest.fixture
def answer(talk: Callable[..., Awaitable[int]]) -> Callable[..., Awaitable[str]]:
    """Starts an HTTP server that answers every request with these bytes; returns its URL."""

    async def started(*parts: bytes, hang: bool = False, seen: list[bytes] | None = None, **options: Any) -> str:
        async def conversation(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            request = await reader.readuntil(b"\r\n\r\n")
            if seen is not None:
                seen.append(request)
            for part in parts:
                writer.write(part)
                await writer.drain()
            if hang:
                await asyncio.sleep(60)
            if parts and not parts[-1].endswith(b"RESET"):
                writer.close()
                await writer.wait_closed()

        port = await talk(conversation, **options)
        return f"{'https' if options.get('tls') else 'http'}://127.0.0.1:{port}/"

    return started


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, Path]]:
    """Makes a self-signed certificate for 127.0.0.1; returns the certificate and key files."""
    folder = tmp_path_factory.mktemp("certificates")

    def made(name: str = "good", *, days: int = 30, host: str = "IP:127.0.0.1") -> tuple[Path, Path]:
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        if not certificate.exists():
            subprocess.run(
                [
                    *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
                    *("-nodes", "-keyout", str(key), "-out", str(certificate), "-days", str(days)),
                    *("-subj", "/CN=test", "-addext", f"subjectAltName={host}"),
                ],
                check=True,
                capture_output=True,
            )
        return certificate, key

    return made


@pytest.fixture
def server_tls() -> Callable[[tuple[Path, Path]], ssl.SSLContext]:
    def made(files: tuple[Path, Path]) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*files)
        return context

    return made


class Postgres:
    """A PostgreSQL server that can be stopped and started."""

    def __init__(self, folder: Path) -> None:
        self._data, self.port = folder / "data", free_port()
        self._run(
            "initdb", "-D", str(self._data), "-U", "postgres", "-A", "scram-sha-256", f"--pwfile={folder}/pw", "-N"
        )
        self.dsn = f"postgresql://postgres:s3cret-pw@127.0.0.1:{self.port}/postgres"

    def _run(self, *argv: str) -> None:
        drop = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
        subprocess.run([*drop, str(POSTGRES / argv[0]), *argv[1:]], check=True, capture_output=True, cwd="/")

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        self._run("pg_ctl", "-D", str(self._data), "-o", options, "-l", f"{self._data}.log", "-w", "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self._data), "-m", "immediate", "-w", "stop")


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    if not POSTGRES.exists():
        pytest.skip("PostgreSQL 15 of Debian is not installed")
    # Under /tmp itself: pytest's own folders are closed to the user `postgres`.
    folder = Path(subprocess.run(["mktemp", "-d"], check=True, capture_output=True, text=True).stdout.strip())
    (folder / "pw").write_text("s3cret-pw\n")
    if os.geteuid() == 0:
        for path in (folder, folder / "pw"):
            shutil.chown(path, "postgres", "postgres")
    server = Postgres(folder)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def redis_port() -> Iterator[int]:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    port = free_port()
    argv = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--requirepass", "s3cret-pw"]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as server:
        for _ in range(100):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield port
        server.terminate()

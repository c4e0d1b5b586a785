"""What the probes ask: servers on loopback that answer over HTTP, with and without TLS, and one that never answers."""

from __future__ import annotations

import asyncio
import multiprocessing
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


@dataclass(frozen=True)
class Targets:
    """Their ports."""

    plain: int
    tls: int
    hung: int


@contextmanager
def targets(directory: Path) -> Iterator[Targets]:
    """Serves in another process, so that the exporters are not measured together with them."""
    receiver, sender = multiprocessing.Pipe()
    certificate = _certificate(directory)
    server = multiprocessing.get_context("spawn").Process(target=_serve, args=(sender, certificate), daemon=True)
    server.start()
    sender.close()
    try:
        yield Targets(*receiver.recv())
    finally:
        server.terminate()
        server.join()


def _certificate(directory: Path) -> tuple[str, str]:
    files = str(directory / "target.pem"), str(directory / "target.key")
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    argv += ["-out", files[0], "-keyout", files[1], "-days", "30", "-subj", "/CN=localhost"]
    subprocess.run([*argv, "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"], check=True, capture_output=True)
    return files


class _Answering(asyncio.Protocol):
    """Gives the same answer to every request."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(_ANSWER)
        self._transport.close()


def _serve(ports: Connection, certificate: tuple[str, str]) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*certificate)
        servers = [
            await loop.create_server(_Answering, "127.0.0.1", 0, backlog=1024),
            await loop.create_server(_Answering, "127.0.0.1", 0, backlog=1024, ssl=tls),
            await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, backlog=1024),
        ]
        ports.send([server.sockets[0].getsockname()[1] for server in servers])
        await asyncio.Event().wait()

    asyncio.run(run())

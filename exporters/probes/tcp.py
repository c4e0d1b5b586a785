"""The check type `tcp`: connects, optionally with TLS, and compares the answer."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from socket import AF_UNSPEC
from time import perf_counter
from typing import ClassVar, Literal

from pydantic import SecretStr

from exporters.clients.address import Address, host_and_port
from exporters.clients.connections import Connections
from exporters.clients.databases import describe_error
from exporters.clients.phases import Phases, phases
from exporters.clients.tls import Handshake, Tls, earliest_expiry, handshake
from exporters.errors import Failed, raise_if_local
from exporters.output import ProbeOutput
from exporters.probes.check import Check, Regex

LONGEST_ANSWER = 65536


class Tcp(Check):
    """A TCP connection, with TLS if `tls` is set. `send` is sent first; the answer must match `answer_matches`."""

    type: Literal["tcp"]
    address: Address
    tls: Tls | None = None
    send: SecretStr | None = None
    answer_matches: Regex | None = None

    reasons: ClassVar[tuple[str, ...]] = ("resolve", "connect", "tls", "answer")

    @property
    def shown_target(self) -> str:
        """The address."""
        return self.address

    async def probe(self, out: ProbeOutput, connections: Connections) -> None:
        """See Check.probe."""
        handshake.set(Handshake())
        phases.set(Phases())
        reader, writer = await self._connect(out, connections)
        try:
            if self.send is not None:
                writer.write(self.send.get_secret_value().encode())
            if self.answer_matches is not None:
                await self._read_answer(reader, self.answer_matches, out)
        except OSError as error:
            raise Failed(f"the connection was lost: {describe_error(error)}", reason="answer") from error
        finally:
            # Aborted, not closed: a peer that never reads must not keep the socket open.
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()

    async def _connect(
        self, out: ProbeOutput, connections: Connections
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = host_and_port(self.address)
        began = perf_counter()
        try:
            addresses = [entry["host"] for entry in await connections.resolver.resolve(host, port, AF_UNSPEC)]
        except OSError as error:
            raise_if_local(error)
            raise Failed(f"{host} has no address: {describe_error(error)}", reason="resolve") from error
        out.gauge("probe_tcp_duration_seconds", PHASES, perf_counter() - began, phase="resolve")
        out.log(f"{host} is {', '.join(addresses)}")
        began = perf_counter()
        security = connections.context(self.tls) if self.tls else None
        name = ((self.tls.server_name if self.tls else None) or host) if security else None
        last: OSError | None = None
        for address in addresses:
            try:
                streams = await asyncio.open_connection(address, port, ssl=security, server_hostname=name)
            except OSError as error:
                out.log(f"{address}: {describe_error(error)}")
                last = error
            else:
                self._measure(began, out)
                return streams
        if last is not None:
            raise_if_local(last)
        record = handshake.get()
        step = "tls" if record and record.began else "connect"
        raise Failed(f"cannot connect: {describe_error(last or OSError('no address'))}", reason=step) from last

    def _measure(self, began: float, out: ProbeOutput) -> None:
        now, record = perf_counter(), handshake.get()
        secured = record.began if record and record.began else now
        out.gauge("probe_tcp_duration_seconds", PHASES, secured - began, phase="connect")
        if record and record.connection is not None:
            out.gauge("probe_tcp_duration_seconds", PHASES, now - secured, phase="tls")
            if (expiry := earliest_expiry(record.connection)) is not None:
                out.gauge("probe_ssl_earliest_cert_expiry", CERTIFICATE, expiry)
        out.log("connected")

    async def _read_answer(self, reader: asyncio.StreamReader, pattern: Regex, out: ProbeOutput) -> None:
        answer = b""
        while not pattern.found_in(answer):
            chunk = await reader.read(4096)
            answer += chunk
            if not chunk or len(answer) > LONGEST_ANSWER:
                end = "the peer closed the connection" if not chunk else "the answer is too long"
                raise Failed(f"{end} after {len(answer)} bytes that do not match {pattern.text!r}", reason="answer")
        out.log(f"the answer of {len(answer)} bytes matches")


PHASES = "Duration of the phases of a TCP probe."
CERTIFICATE = "Unix time at which the first certificate of the server expires."

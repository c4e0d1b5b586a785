"""The check type `tcp`: connects, optionally with TLS, and compares the answer."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import ClassVar, Literal

from pydantic import SecretStr

from exporters.clients.address import Address, host_and_port
from exporters.clients.connections import Connections
from exporters.clients.databases import describe_error
from exporters.clients.phases import Phases
from exporters.clients.tls import Tls, earliest_expiry
from exporters.errors import Failed
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
        spent, reader = Phases(), asyncio.StreamReader()
        make = partial(asyncio.StreamReaderProtocol, reader)
        try:
            transport, _ = await connections.connect(make, *host_and_port(self.address), spent, self.tls)
        finally:
            self._measure(spent, out)
        peer = transport.get_extra_info("peername")  # None if it has already closed the connection
        out.log(f"connected to {peer[0]}" if peer else "connected")
        try:
            if self.send is not None:
                transport.write(self.send.get_secret_value().encode())
            if self.answer_matches is not None:
                await self._read_answer(reader, self.answer_matches, out)
        except OSError as error:
            raise Failed(f"the connection was lost: {describe_error(error)}", reason="answer") from error
        finally:
            transport.abort()  # not closed: a peer that never reads must not keep the socket open

    def _measure(self, spent: Phases, out: ProbeOutput) -> None:
        for phase in ("resolve", "connect", "tls") if self.tls else ("resolve", "connect"):
            out.gauge("probe_tcp_duration_seconds", PHASES, getattr(spent, phase), phase=phase)
        if spent.tls_connection is not None and (expiry := earliest_expiry(spent.tls_connection)) is not None:
            out.gauge("probe_ssl_earliest_cert_expiry", CERTIFICATE, expiry)

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

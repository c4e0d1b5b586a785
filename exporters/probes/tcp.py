"""Does something accept connections there, and does it say what it should?"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from socket import AF_UNSPEC
from time import perf_counter
from typing import ClassVar, Literal

from pydantic import SecretStr, field_validator

from exporters.check import Check, Regex
from exporters.connections import Connections
from exporters.databases import described
from exporters.errors import Failed, spare_the_target
from exporters.notes import Notes
from exporters.phases import Phases, phases
from exporters.tls import Handshake, Tls, earliest_expiry, handshake

LONGEST_ANSWER = 65536


class Tcp(Check):
    """A TCP connection, with TLS if `tls` is given; `send` and `answer_matches` hold a short conversation."""

    type: Literal["tcp"]
    address: str
    tls: Tls | None = None
    send: SecretStr | None = None
    answer_matches: Regex | None = None

    reasons: ClassVar[tuple[str, ...]] = ("resolve", "connect", "tls", "answer")

    @field_validator("address")
    @classmethod
    def _is_host_and_port(cls, address: str) -> str:
        host_and_port(address)
        return address

    @property
    def shown_target(self) -> str:
        """The address."""
        return self.address

    async def probe(self, out: Notes, reach: Connections) -> None:
        """As Check.probe."""
        handshake.set(Handshake())
        phases.set(Phases())
        reader, writer = await self._connected(out, reach)
        try:
            if self.send is not None:
                writer.write(self.send.get_secret_value().encode())
            if self.answer_matches is not None:
                await self._heard(reader, self.answer_matches, out)
        except OSError as error:
            raise Failed(f"the connection broke: {described(error)}", reason="answer") from error
        finally:
            # Aborted, not closed: a peer that never reads must not keep what we sent, and the socket, alive.
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()

    async def _connected(self, out: Notes, reach: Connections) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = host_and_port(self.address)
        began = perf_counter()
        try:
            addresses = [entry["host"] for entry in await reach.resolver.resolve(host, port, AF_UNSPEC)]
        except OSError as error:
            spare_the_target(error)
            raise Failed(f"{host} has no address: {described(error)}", reason="resolve") from error
        out.gauge("probe_tcp_duration_seconds", PHASES, perf_counter() - began, phase="resolve")
        out.say(f"{host} is {', '.join(addresses)}")
        began = perf_counter()
        security = reach.context(self.tls) if self.tls else None
        name = ((self.tls.server_name if self.tls else None) or host) if security else None
        last: OSError | None = None
        for address in addresses:
            try:
                streams = await asyncio.open_connection(address, port, ssl=security, server_hostname=name)
            except OSError as error:
                out.say(f"{address}: {described(error)}")
                last = error
            else:
                self._measure(began, out)
                return streams
        if last is not None:
            spare_the_target(last)
        record = handshake.get()
        step = "tls" if record and record.began else "connect"
        raise Failed(f"cannot connect: {described(last or OSError('no address'))}", reason=step) from last

    def _measure(self, began: float, out: Notes) -> None:
        now, record = perf_counter(), handshake.get()
        secured = record.began if record and record.began else now
        out.gauge("probe_tcp_duration_seconds", PHASES, secured - began, phase="connect")
        if record and record.connection is not None:
            out.gauge("probe_tcp_duration_seconds", PHASES, now - secured, phase="tls")
            if (expiry := earliest_expiry(record.connection)) is not None:
                out.gauge("probe_ssl_earliest_cert_expiry", CERTIFICATE, expiry)
        out.say("connected")

    async def _heard(self, reader: asyncio.StreamReader, pattern: Regex, out: Notes) -> None:
        heard = b""
        while not pattern.found_in(heard):
            chunk = await reader.read(4096)
            heard += chunk
            if not chunk or len(heard) > LONGEST_ANSWER:
                how = "the peer closed" if not chunk else "the answer is too long"
                raise Failed(f"{how} after {len(heard)} bytes that do not match {pattern.written!r}", reason="answer")
        out.say(f"the answer of {len(heard)} bytes matches")


PHASES = "Duration of the phases of a TCP probe."
CERTIFICATE = "Unix time at which the first certificate that the server sent runs out."


def host_and_port(address: str) -> tuple[str, int]:
    """`db:5432` or `[::1]:5432` taken apart; ValueError if it is neither."""
    host, colon, port = address.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if not colon or not bare or (":" in bare) != host.startswith("[") or not port.isascii() or not port.isdigit():
        raise ValueError("must be written host:port, or [address]:port for IPv6")
    if not 0 < int(port) < 65536:
        raise ValueError("the port must be between 1 and 65535")
    return bare, int(port)

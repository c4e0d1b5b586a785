"""TLS contexts, and the expiry of certificates."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, field_validator, model_validator


class Tls(BaseModel):
    """Certificates for one target. Files are PEM."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    server_name: str | None = None
    insecure_skip_verify: bool = False

    @field_validator("server_name")
    @classmethod
    def _is_name(cls, name: str | None) -> str | None:
        client, empty = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.MemoryBIO()
        try:
            client.wrap_bio(empty, empty, server_hostname=None if name is None else name.rstrip("."))
        except (ValueError, TypeError):
            raise ValueError(f"{name!r} is not a host name; write it as shop.example") from None
        return name

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if self.key_file and not self.cert_file:
            raise ValueError("key_file needs cert_file; add it")
        for name in ("ca_file", "cert_file", "key_file"):
            path = getattr(self, name)
            if path and not Path(path).is_file():
                raise ValueError(f"{name} {path} is not a file; correct the path")
        if not (self.ca_file or self.cert_file):
            return self
        try:
            context(self)
        except (ssl.SSLError, OSError) as error:
            raise ValueError(f"these certificates cannot be used: {error}") from error
        return self


def context(tls: Tls) -> ssl.SSLContext:
    """Returns a client context for these settings. Loading the system's certificates takes about 10 ms: keep it."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if tls.insecure_skip_verify:
        client.check_hostname = False
        client.verify_mode = ssl.CERT_NONE
    elif tls.ca_file:
        client.load_verify_locations(tls.ca_file)
    else:
        client.load_default_certs()
    if tls.cert_file:
        client.load_cert_chain(tls.cert_file, tls.key_file)
    return client


def earliest_expiry(connection: ssl.SSLObject) -> float | None:
    """Returns the Unix time at which the first certificate of the peer expires, or None before the handshake.

    Before Python 3.13 the standard library has only the certificate of the server, not the rest of its chain.
    """
    chain = getattr(connection, "get_unverified_chain", None)
    try:
        sent: list[bytes | None] = chain() if chain is not None else [connection.getpeercert(binary_form=True)]
    except ValueError:  # the handshake is not over
        return None
    return min((not_after(der) for der in sent if der), default=None)


def not_after(der: bytes) -> float:
    """Returns `notAfter` of an X.509 certificate as Unix time. The certificate need not be trusted.

    The `ssl` module decodes only certificates that it has verified.
    """
    certificate = _children(_children(der)[0][1])
    fields = [item for item in _children(certificate[0][1]) if item[0] != 0xA0]  # [0] version is optional
    tag, value = _children(fields[3][1])[1]
    text = value.decode("ascii")
    if tag == 0x17:  # UTCTime has a two-digit year; 50 and above mean 19xx (RFC 5280, section 4.1.2.5.1)
        text = ("19" if text >= "5" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _children(der: bytes) -> list[tuple[int, bytes]]:
    found, at = [], 0
    while at < len(der):
        tag, length, at = der[at], der[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(der[at : at + size], "big"), at + size
        found.append((tag, der[at : at + length]))
        at += length
    return found

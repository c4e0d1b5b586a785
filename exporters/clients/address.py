"""Addresses as `host:port`."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator


def host_and_port(address: str) -> tuple[str, int]:
    """Splits `db:5432` or `[::1]:5432`. Raises ValueError for anything else."""
    host, colon, port = address.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if not colon or not bare or (":" in bare) != host.startswith("[") or not port.isascii() or not port.isdigit():
        raise ValueError("must be written host:port, or [address]:port for IPv6; write it as 127.0.0.1:9469")
    if not 0 < int(port) < 65536:
        raise ValueError("the port must be between 1 and 65535; write it as host:port")
    return bare, int(port)


def _checked(address: str) -> str:
    host_and_port(address)
    return address


Address = Annotated[str, AfterValidator(_checked)]
"""The type of a field that is written `host:port`."""

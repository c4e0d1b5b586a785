"""Durations of the phases of a probe, divided as in blackbox_exporter and summed over redirects."""

from __future__ import annotations

import ssl
from dataclasses import dataclass


@dataclass(slots=True)
class Phases:
    """Seconds per phase. `tls_connection` is that of the last connection, if it used TLS."""

    resolve: float = 0.0
    connect: float = 0.0
    tls: float = 0.0
    processing: float = 0.0
    transfer: float = 0.0
    tls_connection: ssl.SSLObject | None = None

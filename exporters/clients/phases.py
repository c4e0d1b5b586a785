"""Durations of the phases of a probe, divided as in blackbox_exporter and summed over redirects."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass
class Phases:
    """Seconds per phase. `connected` is the perf_counter time at which the latest connection was ready for use."""

    resolve: float = 0.0
    connect: float = 0.0
    tls: float = 0.0
    processing: float = 0.0
    transfer: float = 0.0
    connected: float | None = None


phases: ContextVar[Phases | None] = ContextVar("phases", default=None)
"""The phases of the probe in this task. The hooks of aiohttp know the task, not the probe."""

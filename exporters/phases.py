"""How long each phase of an HTTP probe took, as blackbox_exporter divides it; redirects add up."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass
class Phases:
    """Seconds per phase; `connected` is the perf_counter time at which the latest connection was ready for use."""

    resolve: float = 0.0
    connect: float = 0.0
    tls: float = 0.0
    processing: float = 0.0
    transfer: float = 0.0
    connected: float | None = None


phases: ContextVar[Phases | None] = ContextVar("phases", default=None)
"""The phases of the probe that runs in this task: aiohttp's hooks know the task, but not the probe."""

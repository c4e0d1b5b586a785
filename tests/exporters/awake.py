"""Probes on a machine that may be busy with many tests at once."""

from __future__ import annotations

from typing import Any

from exporters.check import Check
from exporters.connections import Connections
from exporters.errors import Unable
from exporters.notes import Notes
from exporters.probing import Result, run


async def run_awake(check: Check, reach: Connections, **how: Any) -> tuple[Result, Notes]:
    """Like `run`, and again where the exporter rightly says that it was this busy machine that stood still."""
    for _ in range(9):
        try:
            return await run(check, reach, **how)
        except Unable as error:
            if "stood still" not in str(error):
                raise
    return await run(check, reach, **how)

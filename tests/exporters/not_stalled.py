"""Retries probes on a busy machine."""

from __future__ import annotations

from typing import Any

from exporters.clients.connections import Connections
from exporters.errors import Unable
from exporters.output import ProbeOutput
from exporters.probes.check import Check
from exporters.runner import Result, run


async def run_not_stalled(check: Check, connections: Connections, **options: Any) -> tuple[Result, ProbeOutput]:
    """Runs a check, and repeats it while the busy machine stalls the event loop."""
    for _ in range(9):
        try:
            return await run(check, connections, **options)
        except Unable as error:
            if "stalled" not in str(error):
                raise
    return await run(check, connections, **options)

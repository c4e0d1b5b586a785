"""The worker's evidence loop: collects what policies request, and deletes expired evidence once an hour."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from responder.errors import StepFailed, Unavailable
from responder.evidence.collector import EvidenceCollector
from responder.logging import say
from responder.transport.background import OnError, run_loop

log = logging.getLogger("responder.evidence")

_DELETE_EVERY = 3600.0
_AFTER_FAILURE = 30.0


async def maintain(
    collector: Callable[[], EvidenceCollector | None],
    *,
    worker: str,
    guard: Callable[[], None],
    poll: float,
    on_error: OnError = lambda loop: None,
) -> None:
    """Runs until cancelled, or until `guard` raises `LeaseLost`."""
    clock, delete_at = asyncio.get_running_loop().time, 0.0

    async def turn() -> float | None:
        nonlocal delete_at
        current = collector()
        if current is None:
            return None
        result = await current.collect_next_request(worker, guard)
        if clock() >= delete_at:
            delete_at = clock() + _DELETE_EVERY
            await _delete_expired(current)
        return {"done": 0.0, "later": _AFTER_FAILURE}.get(result)

    await run_loop("evidence", turn, every=poll, on_error=on_error)


async def _delete_expired(collector: EvidenceCollector) -> None:
    try:
        if deleted := await collector.delete_expired():
            say(log, "expired evidence deleted", ids=deleted)
    except (StepFailed, Unavailable) as e:
        say(log, "expired evidence not deleted", level=logging.WARNING, reason=str(e))

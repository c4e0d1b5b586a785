"""The worker's loop over evidence: what policies ask for is kept soon, and what is too old is deleted once an hour."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from responder.errors import StepFailed, Unavailable
from responder.evidence.keeper import Keeper
from responder.logging import say
from responder.transport.background import OnError, run_loop

log = logging.getLogger("responder.evidence")

_CLEAN_EVERY = 3600.0
_AFTER_FAILURE = 30.0


async def maintain(
    keeper: Callable[[], Keeper | None],
    *,
    worker: str,
    guard: Callable[[], None],
    poll: float,
    on_error: OnError = lambda loop: None,
) -> None:
    """Runs until cancelled, or until `guard` raises `LeaseLost`."""
    clock, clean_at = asyncio.get_running_loop().time, 0.0

    async def turn() -> float | None:
        nonlocal clean_at
        current = keeper()
        if current is None:
            return None
        became = await current.next_wanted(worker, guard)
        if clock() >= clean_at:
            clean_at = clock() + _CLEAN_EVERY
            await _clean(current)
        return {"done": 0.0, "later": _AFTER_FAILURE}.get(became)

    await run_loop("evidence", turn, every=poll, on_error=on_error)


async def _clean(keeper: Keeper) -> None:
    try:
        if gone := await keeper.clean():
            say(log, "old evidence deleted", ids=gone)
    except (StepFailed, Unavailable) as e:
        say(log, "old evidence could not be deleted", level=logging.WARNING, reason=str(e))

"""The worker's loop over evidence: what policies ask for is kept soon, and what is too old is deleted once an hour."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime

from responder.errors import Halt, JournalUnavailable, Superseded, Unavailable
from responder.evidence.keeper import Keeper
from responder.logs import say

log = logging.getLogger("responder.evidence")

_CLEAN_EVERY = 3600.0
_AFTER_FAILURE = 30.0


async def look_after(
    keeper: Callable[[], Keeper | None], *, worker: str, guard: Callable[[], None], poll: float
) -> None:
    """Runs until cancelled, or until `guard` raises `Superseded`."""
    clock, clean_at = asyncio.get_running_loop().time, 0.0
    while True:
        pause, current = poll, keeper()
        if current is not None:
            try:
                match await current.next_wanted(worker, guard):
                    case "done":
                        pause = 0.0
                    case "later":
                        pause = _AFTER_FAILURE
                if clock() >= clean_at:
                    clean_at = clock() + _CLEAN_EVERY
                    await _clean(current)
            except JournalUnavailable:
                pass
            except Superseded:
                raise
            except Exception:  # as a store that speaks S3 in its own way: that must not end who rolls back
                log.exception("evidence")
                pause = _AFTER_FAILURE
        await asyncio.sleep(pause)


async def _clean(keeper: Keeper) -> None:
    try:
        if gone := await keeper.clean(datetime.now(UTC)):
            say(log, "old evidence deleted", ids=gone)
    except (Halt, Unavailable) as e:
        say(log, "old evidence could not be deleted", level=logging.WARNING, reason=str(e))

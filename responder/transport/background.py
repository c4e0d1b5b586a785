"""Background loops: unexpected errors are logged, counted and retried with exponential backoff."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Literal, TypeAlias, get_args

from responder.errors import JournalUnavailable, LeaseLost

log = logging.getLogger("responder")

Loop: TypeAlias = Literal[
    "claims",
    "lease",
    "expiry",
    "promotion",
    "observation",
    "waiting",
    "collateral",
    "watchdog",
    "leftovers",
    "evidence",
    "retention",
    "notifications",
    "metrics",
    "progress",
]
LOOPS: tuple[Loop, ...] = get_args(Loop)
OnError: TypeAlias = Callable[[Loop], None]
"""Called after each unexpected error in a loop."""

LONGEST = 60.0


async def run_loop(
    loop: Loop,
    act: Callable[[], Awaitable[float | None]],
    *,
    every: float,
    on_error: OnError,
    wait: Callable[[float], Awaitable[object]] = asyncio.sleep,
    longest: float = LONGEST,
    rest: float = 0.0,
) -> None:
    """Runs `act` every `every` seconds until cancelled, or until `act` raises LeaseLost.

    `act` may return the seconds until its next run. An unavailable journal is not an unexpected error. `rest`: seconds
    after each wait, so that one run serves the notifications that arrive together, and does not delay their senders.
    """
    in_a_row = 0
    while True:
        pause = every
        try:
            delay = await act()
            pause, in_a_row = every if delay is None else delay, 0
        except (Exception, asyncio.CancelledError) as e:
            task = asyncio.current_task()
            # A CancelledError without a cancelled task comes from another task that `act` has awaited.
            if isinstance(e, LeaseLost) or task is None or task.cancelling():
                raise
            if not isinstance(e, JournalUnavailable):
                pause = min(every * 2.0 ** min(in_a_row, 16), longest)
                in_a_row += 1
                on_error(loop)
                log.exception("background loop failed", extra={"fields": {"loop": loop, "retry_in": pause}})
        await wait(pause)
        if rest:
            await asyncio.sleep(rest)

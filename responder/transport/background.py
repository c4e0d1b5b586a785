"""What goes round for ever goes on after a bug: that is logged and counted, and tried again, later each time."""

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
    "waiting",
    "collateral",
    "watchdog",
    "leftovers",
    "evidence",
    "notifications",
    "progress",
]
LOOPS: tuple[Loop, ...] = get_args(Loop)
OnError: TypeAlias = Callable[[Loop], None]
"""Is told of each bug in a loop."""

LONGEST = 60.0


async def run_loop(
    loop: Loop,
    act: Callable[[], Awaitable[float | None]],
    *,
    every: float,
    on_error: OnError,
    wait: Callable[[float], Awaitable[object]] = asyncio.sleep,
    longest: float = LONGEST,
) -> None:
    """Acts and waits, in turn, until it is cancelled or `act` raises `LeaseLost`.

    `act` may say in how many seconds it wants its next turn. A journal that is away is no bug, and not told here.
    """
    in_a_row = 0
    while True:
        pause = every
        try:
            delay = await act()
            pause, in_a_row = every if delay is None else delay, 0
        except (Exception, asyncio.CancelledError) as e:
            task = asyncio.current_task()
            # Not being cancelled, it has waited for somebody else who was.
            if isinstance(e, LeaseLost) or task is None or task.cancelling():
                raise
            if not isinstance(e, JournalUnavailable):
                pause = min(every * 2.0 ** min(in_a_row, 16), longest)
                in_a_row += 1
                on_error(loop)
                log.exception("a bug; the rest goes on", extra={"fields": {"loop": loop, "again_in": pause}})
        await wait(pause)

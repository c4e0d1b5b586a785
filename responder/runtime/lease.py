"""The right to act, which runs out by itself where whoever holds it does not renew it."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable

from responder.errors import JournalUnavailable, LeaseLost
from responder.journal import Database, executions
from responder.logging import say
from responder.transport.background import OnError

log = logging.getLogger("responder.worker")


def _boottime() -> float:
    # Goes on while the machine sleeps and does not jump with the wall clock.
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Lease:
    """The right to act, by the database's clock, for one boot of one worker."""

    def __init__(
        self,
        journal: Database,
        seconds: float,
        clock: Callable[[], float] = _boottime,
        *,
        on_error: OnError = lambda loop: None,
    ) -> None:
        self.id = uuid.uuid4().hex
        self.seconds = seconds
        self._journal = journal
        self._clock = clock
        self._stumbled = on_error
        self._renewed_at = float("-inf")

    def guard(self) -> None:
        """Raises LeaseLost where the lease may have run out. To be called with no await before the write it guards.

        A process that was paused for longer than its lease would otherwise finish its step before anything told it.
        """
        if self._clock() - self._renewed_at > 0.75 * self.seconds:
            raise LeaseLost("the lease has run out: another worker may have gone on with it")

    async def take(self) -> None:
        asked_at = self._clock()
        await self._journal.lease_transaction(executions.register, self.id, self.seconds, self._journal.now())
        self._renewed_at = asked_at

    async def keep(self) -> None:
        """Renews until the lease is lost, and returns then."""
        while True:
            await asyncio.sleep(self.seconds / 4)
            asked_at = self._clock()
            try:
                renewed = await self._journal.lease_transaction(executions.renew, self.id, self.seconds)
            except JournalUnavailable as e:
                say(log, "lease not renewed", level=logging.WARNING, reason=str(e))
            except Exception:  # what is under way may go on for as long as it lasts
                log.exception("lease not renewed")
                self._stumbled("lease")
            else:
                if not renewed:
                    return
                self._renewed_at = asked_at
                continue
            if self._clock() - self._renewed_at > self.seconds:
                return

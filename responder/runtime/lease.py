"""The right of one worker to act. It expires unless the worker renews it."""

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
    # Continues during a suspend, and does not jump with the wall clock.
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Lease:
    """The lease of one start of one worker, for `seconds` by the clock of the database."""

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
        self._on_error = on_error
        self._renewed_at = float("-inf")

    def guard(self) -> None:
        """Raises LeaseLost if the lease may have expired. Call it right before a write, with no await in between.

        Without it, a process that was paused for longer than its lease would finish its step.
        """
        if (age := self._clock() - self._renewed_at) > 0.75 * self.seconds:
            raise LeaseLost(
                f"the lease of {self.seconds:g} s was renewed {age:.1f} s ago: another worker may have taken over"
            )

    async def take(self) -> None:
        """Registers the worker. Raises JournalUnavailable."""
        requested_at = self._clock()
        await self._journal.lease_transaction(executions.register, self.id, self.seconds, self._journal.now())
        self._renewed_at = requested_at

    async def keep(self) -> None:
        """Renews the lease four times per lifetime. Returns when it is lost."""
        while True:
            await asyncio.sleep(self.seconds / 4)
            requested_at = self._clock()
            try:
                renewed = await self._journal.lease_transaction(executions.renew, self.id, self.seconds)
            except JournalUnavailable as e:
                say(log, "lease not renewed", level=logging.WARNING, reason=str(e))
            except Exception:  # a bug must not end running rollbacks before the lease has expired
                log.exception("lease not renewed")
                self._on_error("lease")
            else:
                if not renewed:
                    return
                self._renewed_at = requested_at
                continue
            if self._clock() - self._renewed_at > self.seconds:
                return

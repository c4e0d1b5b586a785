"""How a rollback under way hears that somebody, or something, wants it to stop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from responder.clients import Connections
from responder.evaluation import ask_again, incident_of
from responder.execution import Execution, StopAsked
from responder.journal import Database, Transaction, decisions
from responder.live import ask_alerts, ask_watchdog
from responder.policies import Mandate


class Reins:
    """Of one rollback: the stop file, the kill switch, whoever stops it by name, silences, and the brake."""

    def __init__(
        self, journal: Database, mandate: Callable[[], Mandate], connections: Callable[[], Connections]
    ) -> None:
        self._journal, self._mandate, self._connections = journal, mandate, connections
        self.stirred = asyncio.Event()
        self._asked_at: float | None = None

    def decided_now(self) -> None:
        """The guards have just asked the outside; the first act follows at once and need not ask again."""
        self._asked_at = asyncio.get_running_loop().time()

    async def stop_asked(self, execution: Execution, *, about_to_act: bool) -> StopAsked | None:
        mandate = self._mandate()
        if reason := mandate.stop_file_says():
            return StopAsked("stop file", reason, guard=True)
        if stop := await self._journal.read(stop_of, execution.id):
            return stop
        return await self._outside(execution, mandate) if about_to_act else None

    async def _outside(self, execution: Execution, mandate: Mandate) -> StopAsked | None:
        """What speaks against the next act. Once it has begun, an alert that is gone does not, nor that nobody can
        tell: half a rollback is worse than either end of it.
        """
        now = asyncio.get_running_loop().time()
        if self._asked_at is not None and now - self._asked_at < 1.0:
            return None
        # A person's word, and a move that may have had its effect, are past the point of asking again. A gate that came
        # first is not: minutes may have passed in it.
        begun = execution.accepted.forced or execution.has_begun
        stop = await (self._muted(execution, mandate) if begun else self._refused(execution, mandate))
        if stop is None:
            self._asked_at = now
        return stop

    async def _muted(self, execution: Execution, mandate: Mandate) -> StopAsked | None:
        around = self._connections()
        live = await ask_alerts(incident_of(execution, mandate), mandate, around)
        if live.state == "suppressed":
            return StopAsked("alertmanager", live.reason)
        if mandate.watchdog and not execution.accepted.forced:
            watchdog = await ask_watchdog(mandate.watchdog, around)
            if watchdog.state == "suppressed":
                return StopAsked("watchdog", watchdog.reason)
        return None

    async def _refused(self, execution: Execution, mandate: Mandate) -> StopAsked | None:
        refusal = await ask_again(
            execution, mandate=mandate, journal=self._journal, connections=self._connections(), now=self._journal.now()
        )
        return StopAsked(refusal.guard, refusal.reason, guard=True) if refusal else None

    async def pause(self, seconds: float) -> None:
        self.stirred.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.stirred.wait()


async def stop_of(tx: Transaction, execution_id: str) -> StopAsked | None:
    """Who wants all of them or this one to stop, and why."""
    if switch := await decisions.stopped(tx):
        return StopAsked(switch.thrown_by, f"all automation was stopped: {switch.reason}", guard=True)
    row = await tx.first("stop_asked", id=execution_id)
    return StopAsked(row["stop_by"], row["stop_reason"]) if row else None

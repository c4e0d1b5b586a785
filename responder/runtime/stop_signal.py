"""How a rollback under way hears that somebody, or something, wants it to stop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from responder.backends.connections import Connections
from responder.decisions.alert_state import ask_alerts, ask_watchdog
from responder.decisions.evaluation import ask_again, incident_of
from responder.decisions.policies import PolicySet
from responder.journal import Database, Transaction, decisions
from responder.rollback.execution import Execution
from responder.rollback.ports import StopRequest


class StopSignal:
    """Of one rollback: the stop file, the kill switch, whoever stops it by name, silences, and the brake."""

    def __init__(
        self, journal: Database, policy_set: Callable[[], PolicySet], connections: Callable[[], Connections]
    ) -> None:
        self._journal, self._mandate, self._connections = journal, policy_set, connections
        self.wake = asyncio.Event()
        self._asked_at: float | None = None

    def decided_now(self) -> None:
        """The guards have just asked the outside; the first act follows at once and need not ask again."""
        self._asked_at = asyncio.get_running_loop().time()

    async def requested(self, execution: Execution, *, about_to_act: bool) -> StopRequest | None:
        policy_set = self._mandate()
        if reason := policy_set.stop_file_says():
            return StopRequest("stop file", reason, guard=True)
        if stop := await self._journal.read(stop_of, execution.id):
            return stop
        return await self._outside(execution, policy_set) if about_to_act else None

    async def _outside(self, execution: Execution, policy_set: PolicySet) -> StopRequest | None:
        """What speaks against the next act. Once it has begun, an alert that is gone does not, nor that nobody can
        tell: half a rollback is worse than either end of it.
        """
        now = asyncio.get_running_loop().time()
        if self._asked_at is not None and now - self._asked_at < 1.0:
            return None
        # A person's word, and a move that may have had its effect, are past the point of asking again. A gate that came
        # first is not: minutes may have passed in it.
        begun = execution.accepted.forced or execution.has_begun
        stop = await (self._muted(execution, policy_set) if begun else self._refused(execution, policy_set))
        if stop is None:
            self._asked_at = now
        return stop

    async def _muted(self, execution: Execution, policy_set: PolicySet) -> StopRequest | None:
        around = self._connections()
        live = await ask_alerts(incident_of(execution, policy_set), policy_set, around)
        if live.state == "suppressed":
            return StopRequest("alertmanager", live.reason)
        if policy_set.watchdog and not execution.accepted.forced:
            watchdog = await ask_watchdog(policy_set.watchdog, around)
            if watchdog.state == "suppressed":
                return StopRequest("watchdog", watchdog.reason)
        return None

    async def _refused(self, execution: Execution, policy_set: PolicySet) -> StopRequest | None:
        refusal = await ask_again(
            execution,
            policy_set=policy_set,
            journal=self._journal,
            connections=self._connections(),
            now=self._journal.now(),
        )
        return StopRequest(refusal.guard, refusal.reason, guard=True) if refusal else None

    async def pause(self, seconds: float) -> None:
        self.wake.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.wake.wait()


async def stop_of(tx: Transaction, execution_id: str) -> StopRequest | None:
    """Who wants all of them or this one to stop, and why."""
    if switch := await decisions.kill_switch(tx):
        return StopRequest(switch.set_by, f"all automation was stopped: {switch.reason}", guard=True)
    row = await tx.first("stop_request", id=execution_id)
    return StopRequest(row["stop_requested_by"], row["stop_reason"]) if row else None

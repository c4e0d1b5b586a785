"""Signals a running execution to stop, on request of a person or a guard."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from foundation.waiting import set_within
from responder.backends.connections import Connections
from responder.decisions.alert_state import query_alerts, query_watchdog
from responder.decisions.evaluation import evaluate_again, incident_of
from responder.decisions.policy_set import PolicySet
from responder.journal import Database, Transaction, decisions
from responder.rollback.execution import Execution
from responder.rollback.ports import StopRequest

_VALID_FOR = 1.0
"""Seconds for which live data is reused, so that consecutive changes do not query it each time."""


class ExecutionStopSignal:
    """The stop requests for one execution.

    They come from the stop file, the kill switch, a person who stops this execution, a silence of its alerts or of the
    watchdog, and, before the first change, from every guard with live data.
    """

    def __init__(
        self, journal: Database, policy_set: Callable[[], PolicySet], connections: Callable[[], Connections]
    ) -> None:
        self._journal, self._policy_set, self._connections = journal, policy_set, connections
        self.wake = asyncio.Event()
        self._answered_at: float | None = None

    def decided_now(self) -> None:
        """The guards have just allowed the rollback: the first change can follow without another evaluation."""
        self._answered_at = asyncio.get_running_loop().time()

    async def requested(self, execution: Execution, *, about_to_act: bool) -> StopRequest | None:
        """The stop request, or None. Silences and guards are only checked if the execution is `about_to_act`."""
        policy_set = self._policy_set()
        if reason := policy_set.stop_file_says():
            return StopRequest("stop file", reason, guard=True)
        if stop := await self._journal.read(stop_request_of, execution.id):
            return stop
        return await self._outside(execution, policy_set) if about_to_act else None

    async def _outside(self, execution: Execution, policy_set: PolicySet) -> StopRequest | None:
        """After the first change, a resolved alert or a missing answer does not stop the rollback.

        Half a rollback is worse than none, and worse than a complete one.
        """
        now = asyncio.get_running_loop().time()
        if self._answered_at is not None and now - self._answered_at < _VALID_FOR:
            return None
        # A gate before the first change may take minutes, so it does not count as the start.
        begun = execution.accepted.forced or execution.has_begun
        stop = await (self._silenced(execution, policy_set) if begun else self._denied(execution, policy_set))
        if stop is None:
            self._answered_at = now
        return stop

    async def _silenced(self, execution: Execution, policy_set: PolicySet) -> StopRequest | None:
        connections = self._connections()
        live = await query_alerts(incident_of(execution, policy_set), policy_set, connections)
        if live.state == "suppressed":
            return StopRequest("alertmanager", live.reason)
        if policy_set.watchdog and not execution.accepted.forced:
            watchdog = await query_watchdog(policy_set.watchdog, connections)
            if watchdog.state == "suppressed":
                return StopRequest("watchdog", watchdog.reason)
        return None

    async def _denied(self, execution: Execution, policy_set: PolicySet) -> StopRequest | None:
        refusal = await evaluate_again(
            execution,
            policy_set=policy_set,
            journal=self._journal,
            connections=self._connections(),
            now=self._journal.now(),
        )
        return StopRequest(refusal.guard, refusal.reason, guard=True) if refusal else None

    async def pause(self, seconds: float) -> None:
        """Waits so many seconds, or until `wake` is set."""
        self.wake.clear()
        await set_within(self.wake, seconds)


async def stop_request_of(tx: Transaction, execution_id: str) -> StopRequest | None:
    """The kill switch, or the stop request for this execution; None if there is neither."""
    if switch := await decisions.kill_switch(tx):
        return StopRequest(switch.set_by, f"all automation was stopped: {switch.reason}", guard=True)
    row = await tx.first("stop_request", id=execution_id)
    return StopRequest(row["stop_requested_by"], row["stop_reason"]) if row else None

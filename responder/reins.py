"""How a rollback under way hears that somebody, or something, wants it to stop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from responder.clients import Connections
from responder.execution import Execution
from responder.journal import Database, Transaction, decisions
from responder.live import ask_alerts, ask_watchdog
from responder.policies import Incident, Mandate
from responder.survey import also_in_trouble


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

    async def stop_asked(self, execution: Execution, *, about_to_act: bool) -> tuple[str, str] | None:
        mandate = self._mandate()
        if reason := mandate.stop_file_says():
            return "stop file", reason
        if asked := await self._journal.read(stop_of, execution.id):
            return asked
        return await self._outside(execution, mandate) if about_to_act else None

    async def _outside(self, execution: Execution, mandate: Mandate) -> tuple[str, str] | None:
        """What speaks against the next act. Once it has begun, an alert that is gone does not, nor that nobody can
        tell: half a rollback is worse than either end of it.
        """
        told, now = execution.accepted, asyncio.get_running_loop().time()
        if self._asked_at is not None and now - self._asked_at < 1.0:
            return None
        incident = Incident(
            policy=mandate.policy(told.policy),
            service=told.service,
            environment=told.environment,
            alerts=told.alerts,
            received_at=told.received_at,
            forced=told.forced,
            together=tuple(part.service for part in told.also and told.parts),
        )
        # A person's word, and a step that may have had its effect before a crash, are past the point of asking again.
        begun = told.forced or execution.approved_by is not None or execution.steps_begun > 0
        around = self._connections()
        live = await ask_alerts(incident, mandate, around)
        if live.state == "suppressed" or (live.state != "firing" and not begun):
            return "alertmanager", live.reason
        if mandate.watchdog and not told.forced:
            watchdog = await ask_watchdog(mandate.watchdog, around)
            if watchdog.state == "suppressed":
                return "watchdog", watchdog.reason
        service, _ = mandate.service(told.service, told.environment)
        if service and not begun:
            known = await self._journal.read(also_in_trouble, incident, service, mandate, told.at)
            others = sorted({*known, *live.also_in_trouble})
            if len(others) + 1 >= mandate.limits.brake.services:
                return "brake", f"{', '.join(others[:5])} are in trouble too: it is not the deployment of one of them"
        self._asked_at = now
        return None

    async def pause(self, seconds: float) -> None:
        self.stirred.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.stirred.wait()


async def stop_of(tx: Transaction, execution_id: str) -> tuple[str, str] | None:
    """Who wants all of them or this one to stop, and why."""
    if thrown := await decisions.stopped(tx):
        return thrown.thrown_by, f"all automation was stopped: {thrown.reason}"
    row = await tx.one("stop_asked", id=execution_id)
    return (row["stop_by"], row["stop_reason"]) if row else None

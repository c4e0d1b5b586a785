"""A complete rollback without a journal: what the strategies do, from the first step to the outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from responder.backends.connections import Connections
from responder.errors import LeaseLost
from responder.rollback.events import Accepted, Event
from responder.rollback.execution import Execution, begin
from responder.rollback.executor import execute
from responder.rollback.gateway import Gateway
from responder.rollback.plan import Plan
from responder.rollback.ports import Ports, StopRequest
from responder.rollback.version_change import VersionChange
from responder.services import planner
from responder.services.service import Service
from tests.responder.examples import NOW


class FixedConnections(Connections):
    """Clients that the test made."""

    def __init__(self, clients: dict[type, Any]) -> None:
        super().__init__()
        self._clients = clients

    async def to(self, kind: Any) -> Any:
        return self._clients[kind] if kind in self._clients else await super().to(kind)


class Record:
    """Events in a list."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    async def append(self, execution: Execution, *events: Event) -> Execution:
        for event in events:
            self.events.append(event)
            execution = execution.after(event)
        return execution


class StopSignal:
    """Waits in real time, or in the test's own time."""

    def __init__(self, wait: Callable[[float], None] | None = None) -> None:
        self._wait, self.time = wait, 0.0

    async def requested(self, execution: Execution, *, about_to_act: bool) -> StopRequest | None:
        return None

    async def pause(self, seconds: float) -> None:
        self.time += seconds
        if self._wait is None:
            await asyncio.sleep(min(seconds, 0.2))
        else:
            self._wait(seconds)
            await asyncio.sleep(0)


class Rollback:
    """The change of one service from one version to another."""

    def __init__(
        self,
        rollback: dict[str, Any],
        clients: dict[type, Any],
        *,
        from_version: str = "2",
        to_version: str = "1",
        artifact: str = "",
        from_artifact: str = "",
        health_checks: list[dict[str, Any]] | None = None,
        wait: Callable[[float], None] | None = None,
    ) -> None:
        fields = {"name": "shop", "environment": "test", "rollback": rollback}
        self.service = Service.model_validate(
            {**fields, "health_checks": health_checks or [{"http": "http://127.0.0.1:1/"}]}
        )
        self.connections, self.record, self.stop_signal = FixedConnections(clients), Record(), StopSignal(wait)
        self.gateway = Gateway(self.connections, retry_every=0.01)
        self.version = VersionChange(
            service="shop",
            environment="test",
            from_version=from_version,
            to_version=to_version,
            artifacts={"": artifact},
            from_artifacts={"": from_artifact},
            execution="drill-1",
        )
        accepted = Accepted(
            at=NOW, service="shop", environment="test", policy="p", strategy=self.service.rollback.strategy,
            from_version=from_version, to_version=to_version, requested_by="test", reason="a test", received_at=NOW,
        )  # fmt: skip
        self.execution = begin("drill-1", accepted)

    async def plan(self) -> Plan:
        planning = planner.Planning(services={"shop": self.service}, hold_for=0.0, within=5.0)
        return await planner.plan([self.version], self.gateway, planning)

    async def steps(self) -> list[str]:
        return [str(step) for step in (await self.plan()).steps]

    async def run(self, *, through: Callable[[Plan], Plan] = lambda plan: plan) -> Execution:
        """Runs it to the end; `through` may change the plan first, for example to omit its verification."""

        async def plan_for(execution: Execution) -> Plan:
            return through(await self.plan())

        try:
            clock = (lambda: self.stop_signal.time) if self.stop_signal._wait else None
            more: dict[str, Any] = {"clock": clock} if clock else {}
            ports = Ports(
                record=self.record, gateway=self.gateway, stop_signal=self.stop_signal, plan_for=plan_for, **more
            )
            self.execution = await execute(self.execution, ports)
        except LeaseLost:
            raise AssertionError("there is nobody else") from None
        finally:
            await self.connections.close()
        return self.execution

"""Executes a stage's rollback with a crash, a failing gate, a foreign change or a second worker at a chosen point."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime

from responder.backends.http.client import Http
from responder.journal import Database, Transaction, deployments, executions
from responder.journal.deployments import Deployment
from responder.rollback.events import Accepted, Event
from responder.rollback.execution import Execution
from responder.rollback.executor import execute
from responder.rollback.gateway import Gateway
from responder.rollback.plan import Plan
from responder.rollback.ports import KeepEvidence, Ports, StopRequest, keep_nothing
from responder.rollback.version_change import VersionChange
from responder.services import planner, registry, rollbacks
from responder.testing.faults import Effects, FaultyRecord, Point, WatchedConnections
from tests.responder.rollback.crash.stages import RollbackScenario


class HealthOf:
    """Stands in for the checks of services: by default they are healthy and at the good version."""

    def __init__(self, served: Callable[[str], bytes]) -> None:
        self.sick: set[str] = set()
        self._served = served

    async def addresses(self, url: str, *, timeout: float) -> list[str]:
        return ["192.0.2.1"]

    async def reach(self, url: str, *, timeout: float) -> None:
        return None

    async def get(self, url: str, *, headers: dict[str, str], timeout: float, at: str = "") -> tuple[int, str]:
        body = self._served(url).decode(errors="replace") or '{"version": "1"}'
        return (503 if any(part in url for part in self.sick) else 200), body

    async def digest(self, url: str, *, headers: dict[str, str], timeout: float, at: str = "") -> tuple[int, str]:
        return 200, hashlib.sha256(self._served(url)).hexdigest()


class StopSignal:
    """No stop is requested unless the drill does; waiting takes no real time."""

    def __init__(self, wait: Callable[[float], None]) -> None:
        self._wait = wait
        self.time = 0.0
        self.stop: StopRequest | None = None
        self.looks = 0
        self.stop_at: int | None = None

    async def requested(self, execution: Execution, *, about_to_act: bool) -> StopRequest | None:
        self.looks += 1
        if self.stop_at is not None and self.looks > self.stop_at:
            return StopRequest("alice", "a drill")
        return None

    async def pause(self, seconds: float) -> None:
        self.time += seconds
        self._wait(seconds)
        await asyncio.sleep(0)


class CrashDrill:
    """One rollback of one stage in one journal, resumed by as many workers as needed."""

    def __init__(self, stage: RollbackScenario, journal: Database) -> None:
        self.stage, self.journal = stage, journal
        self.effects = Effects(stage.written)
        self.health, self.stop_signal = HealthOf(stage.served), StopSignal(stage.wait)
        self.keep: Callable[[Point], KeepEvidence] | None = None
        self.id = ""
        self._workers: list[str] = []

    async def accept(self) -> None:
        """What the receiver would have recorded: two deployments and an accepted execution."""
        service, stage = self.stage.service, self.stage
        now = datetime.now(UTC)

        async def act(tx: Transaction) -> None:
            for member in (service, *stage.beside):
                for n, (version, status) in enumerate(((stage.to_version, "good"), (stage.from_version, None))):
                    deployment = Deployment(
                        id=f"{member.name}-{n}",
                        service=member.name,
                        environment=member.environment,
                        version=version,
                        at=now.replace(microsecond=n),
                        recorded_by="drill",
                    )
                    await registry.record(tx, deployment, status)  # type: ignore[arg-type]
            versions = {"from_version": stage.from_version, "to_version": stage.to_version}
            accepted = Accepted(
                at=now,
                service=service.name,
                environment=service.environment,
                policy="drill",
                strategy=service.rollback.strategy,
                from_version=self.stage.from_version,
                to_version=self.stage.to_version,
                also=tuple(
                    VersionChange(
                        service=s.name, environment=service.environment, strategy=s.rollback.strategy, **versions
                    )
                    for s in stage.beside
                ),
                requested_by="drill",
                reason="a drill",
                received_at=now,
            )
            self.id = (await rollbacks.accept(tx, executions.new_id(now), accepted)).id

        await self.journal.transaction(act)

    async def claim(self) -> tuple[str, Execution]:
        """A new worker takes over after the lease of the earlier one expired."""
        self.stage.begun()
        worker = f"worker-{len(self._workers)}"

        async def act(tx: Transaction) -> Execution:
            await tx.all("end_all_leases")
            await executions.register(tx, worker, 60.0, datetime.now(UTC))
            claimed, _ = await executions.claim(tx, worker, datetime.now(UTC), concurrent=9, running=())
            return next(execution for execution, _ in claimed if execution.id == self.id)

        execution = await self.journal.transaction(act)
        self._workers.append(worker)
        return worker, execution

    async def run(self, point: Point, *, guard: Callable[[], None] = lambda: None) -> Execution:
        """One worker's run, from the journal to the end or to the chosen point."""
        worker, execution = await self.claim()
        return await self.go_on(worker, execution, point, guard=guard)

    async def go_on(
        self, worker: str, execution: Execution, point: Point, *, guard: Callable[[], None] = lambda: None
    ) -> Execution:
        gateway = Gateway(
            WatchedConnections({**self.stage.clients, Http: self.health}, point, self.effects),
            guard=guard,
            retry_every=0.0,
        )

        async def plan_for(planned: Execution) -> Plan:
            services = {item.name: item for item in (self.stage.service, *self.stage.beside)}
            return await planner.plan(
                [version.model_copy(update={"execution": planned.id}) for version in planned.accepted.parts],
                gateway,
                planner.Planning(
                    services=services,
                    hold_for=0.0,
                    within=0.0,
                    needs=lambda service: [services[name] for name in service.depends_on],
                ),
            )

        record = FaultyRecord(self.journal, worker, point)
        ports = Ports(
            record=record,
            gateway=gateway,
            stop_signal=self.stop_signal,
            plan_for=plan_for,
            keep=self.keep(point) if self.keep else keep_nothing,
            clock=lambda: self.stop_signal.time,
        )
        return await execute(execution, ports)

    async def run_to_the_end(self) -> Execution:
        """The last worker runs without faults. A closed rollback needs none."""
        execution = await self.load()
        return await self.run(Point()) if execution.live else execution

    async def load(self) -> Execution:
        return await self.journal.read(executions.load, self.id)

    async def events(self) -> list[Event]:
        return await self.journal.read(executions.events_of, self.id)

    async def status_of(self, version: str) -> str:
        async def find(tx: Transaction) -> str:
            row = await tx.first("version", service="shop", environment="test", version=version)
            return str(row["status"]) if row else ""

        return await self.journal.read(find)

    async def running(self) -> list[Deployment]:
        every = await self.journal.read(deployments.running)
        return [deployment for deployment in every if deployment.service == self.stage.service.name]

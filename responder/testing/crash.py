"""The crash harness: a rollback that crashes at any call ends as if nothing had happened, exactly once.

    @asynccontextmanager
    async def shop(directory):
        async with nomad_stand_in() as nomad:
            yield CrashCase(service=..., state=nomad.running_version, rolled_back="1", ...)

    @pytest.mark.parametrize("law", LAWS)
    async def test_crashes(law, tmp_path):
        await law(Drills(shop, tmp_path))

Each drill gets its own case and an SQLite journal.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from responder.backends.http.client import Http
from responder.journal import Database, Transaction, executions, open_journal
from responder.journal.deployments import Deployment
from responder.rollback.events import Accepted
from responder.rollback.execution import Execution
from responder.rollback.executor import execute
from responder.rollback.gateway import Gateway
from responder.rollback.plan import Change, Plan
from responder.rollback.ports import Ports, StopRequest
from responder.services import planner, registry, rollbacks
from responder.services.service import Service
from responder.testing.comparison import expect_unchanged
from responder.testing.expect import expect
from responder.testing.faults import Crash, Effects, FaultyRecord, Point, WatchedConnections


@dataclass(frozen=True, kw_only=True)
class CrashCase:
    """A service that runs a bad version, in its own outside systems.

    `clients`: the client of each resource and check; HTTP checks pass unless `Http` is given. `state`: everything
    outside that a rollback may change. `rolled_back`: this state after a rollback. `interfere`: changes the resource
    of the plan as a human would. `wait`: advances the time of the outside systems by seconds.
    """

    service: Service
    from_version: str
    to_version: str
    clients: Mapping[type[Any], Any]
    state: Callable[[], Any]
    rolled_back: Any
    interfere: Callable[[], Awaitable[None]]
    wait: Callable[[float], None] = lambda seconds: None


class CrashRun:
    """One rollback of one case, resumed by as many workers as it takes."""

    def __init__(self, case: CrashCase, journal: Database) -> None:
        self.case, self.before = case, case.state()
        self.effects, self.stop_signal = Effects(case.state), DrillSignal(case.wait)
        self._journal, self._workers, self._id = journal, 0, ""

    async def accept(self) -> None:
        """Records two deployments and an accepted execution, as the webhook receiver does."""
        now, case = datetime.now(UTC), self.case
        key = {"service": case.service.name, "environment": case.service.environment}
        versions = {"from_version": case.from_version, "to_version": case.to_version}

        async def act(tx: Transaction) -> None:
            for n, version in enumerate((case.to_version, case.from_version)):
                at = now.replace(microsecond=n)
                deployment = Deployment(id=f"d-{n}", version=version, at=at, recorded_by="drill", **key)
                await registry.record(tx, deployment, None if n else "good")
            accepted = Accepted(
                at=now, policy="drill", strategy=case.service.rollback.strategy, requested_by="drill", reason="a drill",
                received_at=now, **key, **versions,
            )  # fmt: skip
            self._id = (await rollbacks.accept(tx, executions.new_id(now), accepted)).id

        await self._journal.transaction(act)

    async def run(self, point: Point) -> Execution:
        """A new worker claims the execution and runs it, to its end or to the point."""
        self._workers += 1
        worker = f"worker-{self._workers}"

        async def claim(tx: Transaction) -> Execution:
            await tx.all("end_all_leases")
            await executions.register(tx, worker, 60.0, datetime.now(UTC))
            claimed, _ = await executions.claim(tx, worker, datetime.now(UTC), concurrent=1, running=())
            return claimed[0][0]

        execution = await self._journal.transaction(claim)
        gateway = self._gateway(point)
        ports = Ports(
            record=FaultyRecord(self._journal, worker, point), gateway=gateway, stop_signal=self.stop_signal,
            plan_for=lambda claimed: self._plan(claimed, gateway), clock=lambda: self.stop_signal.time,
        )  # fmt: skip
        return await execute(execution, ports)

    async def look(self) -> None:
        """Plans as a dry run does, and checks the access as `responder check --live` does."""
        gateway, strategy = self._gateway(Point()), self.case.service.rollback
        plan = await self._plan(await self._journal.read(executions.load, self._id), gateway)
        await strategy.problems(gateway)
        for resource in (*(step.resource for step in plan.steps if isinstance(step, Change)), *strategy.derived()):
            await gateway.check_access(resource, within=resource.read_timeout)

    def _gateway(self, point: Point) -> Gateway:
        clients: dict[type[Any], Any] = {Http: Healthy(), **self.case.clients}
        return Gateway(WatchedConnections(clients, point, self.effects), retry_every=0.0)

    async def _plan(self, execution: Execution, gateway: Gateway) -> Plan:
        planning = planner.Planning(services={self.case.service.name: self.case.service}, hold_for=0.0, within=0.0)
        parts = [part.model_copy(update={"execution": execution.id}) for part in execution.accepted.parts]
        return await planner.plan(parts, gateway, planning)

    async def finish(self) -> Execution:
        """The execution after a last worker without faults."""
        execution = await self._journal.read(executions.load, self._id)
        return await self.run(Point()) if execution.live else execution


class Drills:
    """Starts one drill after another, each with a new case and a new journal."""

    def __init__(self, make: Callable[[Path], AbstractAsyncContextManager[CrashCase]], directory: Path) -> None:
        self._make, self._directory, self._number = make, directory, 0
        self._empty = directory / "empty.db"

    @asynccontextmanager
    async def start(self) -> AsyncIterator[CrashRun]:
        """An accepted rollback."""
        self._number += 1
        directory = self._directory / f"drill-{self._number}"
        directory.mkdir()
        async with self._make(directory) as case:
            journal = await self._journal(directory / "journal.db")
            try:
                drill = CrashRun(case, journal)
                await drill.accept()
                yield drill
            finally:
                await journal.close()

    async def _journal(self, file: Path) -> Database:
        """An empty journal. Copying one is faster than a migration for each drill."""
        if not self._empty.exists():
            await (await open_journal(f"sqlite://{self._empty}")).close()
        shutil.copy(self._empty, file)
        return await open_journal(f"sqlite://{file}")


class DrillSignal:
    """A stop signal that requests a stop at query number `stop_at`. Waiting takes no time."""

    def __init__(self, wait: Callable[[float], None]) -> None:
        self.time, self.questions, self.stop_at = 0.0, 0, -1
        self._wait = wait

    async def requested(self, execution: Execution, *, about_to_act: bool) -> StopRequest | None:
        """As `StopSignal.requested`."""
        self.questions += 1
        return StopRequest("alice", "a drill") if 0 <= self.stop_at < self.questions else None

    async def pause(self, seconds: float) -> None:
        """As `StopSignal.pause`."""
        self.time += seconds
        self._wait(seconds)
        await asyncio.sleep(0)


class Healthy:
    """Passes every HTTP check."""

    async def addresses(self, url: str, *, timeout: float) -> list[str]:
        """As `Http.addresses`."""
        return ["192.0.2.1"]

    async def get(self, url: str, **options: Any) -> tuple[int, str]:
        """As `Http.get`."""
        return 200, ""


async def plans_without_changes(drills: Drills) -> None:
    """Planning and the checks of the access change nothing, however often they are made."""
    async with drills.start() as drill:
        for _ in range(2):
            await drill.look()
            expect_unchanged(drill.before, drill.case.state(), "after planning")


async def rolls_back(drills: Drills) -> int:
    """Without faults the rollback succeeds and writes each change once. Returns the number of calls."""
    async with drills.start() as drill:
        point = Point()
        ended = await drill.run(point)
        _expect_rolled_back(drill, ended, "without a fault")
        steps = ended.plan.steps if ended.plan else ()
        changes = [step for step in steps if isinstance(step, Change) and step.after != step.before]
        expect(drill.effects.writes == len(changes), f"{len(changes)} changes led to {drill.effects.writes} writes")
        return point.seen


async def survives_crashes(drills: Drills) -> None:
    """After a crash at any call, before or after its effect, the next worker completes the same rollback."""
    calls = await rolls_back(drills)
    for at in range(calls):
        for after in (False, True):
            async with drills.start() as drill:
                point = Point(at=at, after=after)
                with suppress(Crash):
                    await drill.run(point)
                fault = f"after a crash {'after' if after else 'before'} call {at} ({point.names[-1]})"
                _expect_rolled_back(drill, await drill.finish(), fault)


async def survives_two_crashes(drills: Drills) -> None:
    """A worker that resumes may crash as well, at the same call of its own run."""
    calls = await rolls_back(drills)
    for at in range(calls):
        async with drills.start() as drill:
            for after in (True, False):
                try:
                    await drill.run(Point(at=at // 2, after=after))
                except Crash:
                    continue
                break
            _expect_rolled_back(drill, await drill.finish(), f"after two crashes at call {at // 2}")


async def freezes_on_drift(drills: Drills) -> None:
    """If someone else changes the resource between plan and write, the rollback freezes and leaves that change."""
    async with drills.start() as drill:
        point = Point()
        await drill.run(point)
    async with drills.start() as drill:
        first_commit = point.names.index("append")
        ended = await drill.run(Point(at=first_commit, after=True, act=drill.case.interfere))
        expect(ended.state == "stuck", f"after interference the execution is {ended.state}; expected stuck")
        expect(drill.effects.writes == 0, "the rollback overwrote a change of someone else")


async def reverts(drills: Drills) -> None:
    """A stop at any safe point reverts what was changed; after the last change also with a crash at any call."""
    async with drills.start() as drill:
        await drill.run(Point())
        questions = drill.stop_signal.questions
    calls = 0
    for at in range(questions):
        async with drills.start() as drill:
            drill.stop_signal.stop_at, point = at, Point()
            _expect_reverted(drill, await drill.run(point), f"a stop at query {at}")
            calls = point.seen
    for call in range(calls):
        async with drills.start() as drill:
            drill.stop_signal.stop_at = questions - 1
            with suppress(Crash):
                await drill.run(Point(at=call, after=bool(call % 2)))
            _expect_reverted(drill, await drill.finish(), f"a late stop and a crash at call {call}")


LAWS: tuple[Callable[[Drills], Awaitable[object]], ...] = (
    plans_without_changes,
    rolls_back,
    survives_crashes,
    survives_two_crashes,
    freezes_on_drift,
    reverts,
)


def _expect_rolled_back(drill: CrashRun, ended: Execution, fault: str) -> None:
    expect(ended.outcome == "succeeded", f"{fault} the rollback is {ended.outcome or ended.state}: {ended.reason}")
    found = drill.case.state()
    expect(found == drill.case.rolled_back, f"{fault} the state is {found}; expected {drill.case.rolled_back}")


def _expect_reverted(drill: CrashRun, ended: Execution, fault: str) -> None:
    expect(ended.state == "closed", f"{fault} left the execution {ended.state}; expected closed")
    found = drill.case.state()
    expect(found == drill.before, f"{fault} left the state {found}; expected {drill.before}")

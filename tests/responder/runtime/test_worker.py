"""The worker claims, resumes, stops and gives up rollbacks on either journal, with controlled time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from responder.backends.connections import Connections
from responder.backends.host.client import Local
from responder.backends.http.client import Http
from responder.decisions.limits import Watchdog
from responder.decisions.policy_set import PolicySet
from responder.errors import JournalUnavailable
from responder.journal import Database, decisions, deployments, executions
from responder.journal.deployments import Deployment
from responder.rollback.events import Approved, Event
from responder.rollback.execution import Execution
from responder.rollback.version_change import VersionChange
from responder.runtime import worker as worker_module
from responder.runtime.worker import Worker
from responder.services import registry, rollbacks
from responder.services.service import Service
from responder.testing.resources import FixedConnections
from tests.journals import journal, state  # noqa: F401
from tests.responder.examples import accepted
from tests.responder.rollback.crash.drill import CrashDrill
from tests.responder.rollback.crash.stages import immediate


class WorkerPool:
    """Workers with one journal and one set of services."""

    def __init__(self, drill: CrashDrill, directory: Path) -> None:
        self.drill, self.stop_file = drill, directory / "stop"
        self.heard: list[str] = []
        self.on_error: list[str] = []
        self.watchdog: Watchdog | None = None
        self._running: list[tuple[Worker, asyncio.Task[None]]] = []

    def policy_set(self) -> PolicySet:
        return PolicySet(services=(self.drill.stage.service,), stop_file=self.stop_file, watchdog=self.watchdog)

    def worker(self, *, journal: Database | None = None, **more: Any) -> Worker:  # noqa: F811
        def listen(execution: Execution, events: tuple[Event, ...]) -> None:
            self.heard += [event.type for event in events]

        more = {"lease": 2.0, "poll": 0.02, "on_error": self.on_error.append, **more}
        connections = FixedConnections({Local: Local(), Http: self.drill.health})
        worker = Worker(
            journal or self.drill.journal, self.policy_set, lambda: connections, listeners=(listen,), **more
        )
        self._running.append((worker, asyncio.create_task(worker.run())))
        return worker

    async def until(self, holds: Callable[[Execution], bool]) -> Execution:
        async with asyncio.timeout(60):
            while not holds(execution := await self.drill.load()):
                await asyncio.sleep(0.01)
        return execution

    async def close(self) -> None:
        for worker, task in self._running:
            await worker.close(grace=0.1)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@pytest.fixture
async def pool(journal: Database, tmp_path: Path) -> AsyncIterator[WorkerPool]:  # noqa: F811
    drill = CrashDrill(immediate(tmp_path), journal)
    made = WorkerPool(drill, tmp_path)
    yield made
    await made.close()


def never_verified(pool: WorkerPool) -> None:
    """Keeps the rollback in its last gate until the test ends it."""
    pool.drill.health.sick = {"shop"}


def over(execution: Execution) -> bool:
    return execution.state == "closed"


def in_the_gate(execution: Execution) -> bool:
    return execution.steps_started == 2


async def test_it_claims_a_waiting_execution_and_completes_it(pool: WorkerPool) -> None:
    await pool.drill.accept()
    pool.worker()
    await pool.until(in_the_gate)
    # The policy of manual rollbacks verifies for two minutes: a stop ends it at once with a revert.
    await pool.drill.journal.transaction(executions.request_stop, pool.drill.id, "alice", "enough")
    ended = await pool.until(over)
    assert ended.outcome == "cancelled"
    assert ended.reason == "stopped by alice: enough"
    assert pool.drill.stage.outside() == pool.drill.stage.before
    assert pool.heard[:2] == ["planned", "step_started"]


async def test_it_passes_the_artifacts_of_the_versions_to_the_strategy(
    pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, service_plan = pool.drill.stage, Service.plan
    seen: list[VersionChange] = []

    async def plan(self: Service, gateway: Any, version: VersionChange) -> Any:
        seen.append(version)
        return await service_plan(self, gateway, version)

    monkeypatch.setattr(Service, "plan", plan)
    await pool.drill.accept()
    for version in (stage.from_version, stage.to_version):
        deployed = Deployment(
            id=version,
            service=stage.service.name,
            environment=stage.service.environment,
            version=version,
            platform="android",
            artifact=f"versionCode of {version}",
            at=datetime.now(UTC),
            recorded_by="ci",
        )
        await pool.drill.journal.transaction(registry.record, deployed)
    pool.worker()
    await pool.until(in_the_gate)
    assert seen[0].artifacts == {"android": f"versionCode of {stage.to_version}"}
    assert seen[0].from_artifacts == {"android": f"versionCode of {stage.from_version}"}


async def test_an_accepted_execution_wakes_it_at_once(pool: WorkerPool) -> None:
    pool.worker(poll=600.0)
    await asyncio.sleep(0.1)
    await pool.drill.accept()
    async with asyncio.timeout(60):  # far below the poll interval: a notification woke it
        await pool.until(in_the_gate)


async def test_the_kill_switch_stops_running_rollbacks(pool: WorkerPool) -> None:
    await pool.drill.accept()
    pool.worker()
    await pool.until(in_the_gate)
    await pool.drill.journal.transaction(decisions.set_kill_switch, "bob", "wrong", datetime.now(UTC))
    ended = await pool.until(over)
    assert (ended.outcome, "bob" in ended.reason) == ("cancelled", True)


async def test_the_stop_file_stops_running_rollbacks(pool: WorkerPool) -> None:
    await pool.drill.accept()
    pool.worker()
    await pool.until(in_the_gate)
    pool.stop_file.touch()
    assert "stop file" in (await pool.until(over)).reason


async def test_another_worker_continues_after_the_first_is_gone(pool: WorkerPool) -> None:
    never_verified(pool)
    await pool.drill.accept()
    first = pool.worker()
    await pool.until(in_the_gate)
    await first.close(grace=0)  # clean shutdown: its lease ends at once
    pool.drill.health.sick = set()
    pool.worker()
    resumed = await pool.until(lambda x: x.steps_started == 3)
    assert resumed.state == "running"
    assert pool.heard.count("resumed") == 0  # written in the claim itself
    assert [e.type for e in await pool.drill.events()].count("resumed") == 1


async def test_it_gives_up_after_max_resumptions(pool: WorkerPool) -> None:
    await pool.drill.accept()
    for _ in range(3):
        await pool.drill.claim()  # claims it, and dies

    async def end_leases(tx: Any) -> None:
        await tx.all("end_all_leases")

    await pool.drill.journal.transaction(end_leases)
    pool.worker(max_resumptions=2)
    stuck = await pool.until(lambda x: x.state == "stuck")
    assert "was resumed 3 times" in stuck.reason
    assert pool.drill.stage.outside() == pool.drill.stage.before


async def test_a_bug_is_retried_and_ends_as_stuck(pool: WorkerPool, monkeypatch: pytest.MonkeyPatch) -> None:
    await pool.drill.accept()

    async def explode(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("a bug")

    pool.drill.health.get = explode  # type: ignore[method-assign]
    monkeypatch.setattr(executions, "_HANDING_OVER", timedelta())
    pool.worker(max_resumptions=2)
    stuck = await pool.until(lambda x: x.state == "stuck")
    assert "did not complete" in stuck.reason


class _Bug:
    """Raises the given number of times, then calls the original."""

    def __init__(self, times: int, real: Callable[..., Any] | None = None) -> None:
        self.left, self._real = times, real

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.left -= 1
        if self.left >= 0:
            raise ZeroDivisionError("a bug")
        assert self._real
        return await self._real(*args, **kwargs)


ALWAYS = 1 << 30


@pytest.mark.parametrize(
    ("loop", "owner", "name"),
    [
        ("expiry", worker_module, "_awaiting_approval"),
        ("promotion", worker_module, "promote"),
        ("collateral", worker_module.CollateralSilences, "maintain"),
        ("observation", worker_module, "observe"),
        ("watchdog", worker_module, "query_watchdog"),
    ],
)
async def test_a_bug_in_a_background_loop_is_counted_and_affects_no_rollback(
    loop: str,
    owner: Any,
    name: str,
    pool: WorkerPool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pool.watchdog = Watchdog() if loop == "watchdog" else None
    monkeypatch.setattr(owner, name, _Bug(ALWAYS))
    worker = pool.worker()
    async with asyncio.timeout(60):
        while pool.on_error.count(loop) < 2:
            await asyncio.sleep(0.01)
    assert bool(worker.disarmed) is (loop == "watchdog"), "unknown is not armed"
    pool.watchdog = None  # otherwise the rollback itself would request it
    await pool.drill.accept()
    await pool.until(in_the_gate)
    assert set(pool.on_error) == {loop}
    (record, *_) = [record for record in caplog.records if getattr(record, "fields", {}).get("loop") == loop]
    assert record.exc_info


async def test_it_records_the_version_that_runs(pool: WorkerPool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "responder.worker")
    observed = pool.drill.stage.service.model_copy(update={"deployments": "observed"})
    pool.drill.stage = replace(pool.drill.stage, service=observed)
    pool.worker()
    async with asyncio.timeout(60):
        while not (newest := await pool.drill.journal.read(deployments.newest, "shop", "test")):
            await asyncio.sleep(0.01)
    assert (newest.version, newest.recorded_by) == ("2", "observed")
    assert [record.fields for record in caplog.records if record.message == "deployment observed"] == [
        {"service": "shop", "version": "2"}
    ]


async def test_a_bug_while_evidence_is_kept_affects_no_rollback(pool: WorkerPool) -> None:
    def collector() -> Any:
        if pool.heard:
            return None
        raise ZeroDivisionError("a bug")

    pool.worker(evidence_collector=collector)
    async with asyncio.timeout(60):
        while pool.on_error.count("evidence") < 2:
            await asyncio.sleep(0.01)
    pool.heard.append("")
    await pool.drill.accept()
    await pool.until(in_the_gate)


async def test_a_bug_while_claiming_ends_no_running_rollback_and_is_retried(
    pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    bug = _Bug(3, executions.claim)
    monkeypatch.setattr(executions, "claim", bug)
    pool.worker()
    await pool.drill.accept()
    await pool.until(in_the_gate)
    assert pool.on_error == ["claims"] * 3
    bug.left = ALWAYS
    async with asyncio.timeout(60):
        while len(pool.on_error) < 6:
            await asyncio.sleep(0.01)
    await pool.drill.journal.transaction(executions.request_stop, pool.drill.id, "alice", "enough")
    assert (await pool.until(over)).outcome == "cancelled"
    assert [event.type for event in await pool.drill.events()].count("resumed") == 0


async def test_an_unreadable_execution_does_not_block_others(pool: WorkerPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """An execution of a newer version, on a shared journal."""
    newer = await pool.drill.journal.transaction(rollbacks.accept, "0-newer", accepted(service="other"))
    real = executions.load

    async def load(tx: Any, execution_id: str) -> Execution:
        if execution_id == newer.id:
            raise ValueError("an event that only a newer version knows")
        return await real(tx, execution_id)

    monkeypatch.setattr(executions, "load", load)
    await pool.drill.accept()
    pool.worker()
    await pool.until(in_the_gate)
    async with asyncio.timeout(60):
        while "claims" not in pool.on_error:
            await asyncio.sleep(0.01)
    assert len(await pool.drill.journal.read(executions.events_of, newer.id)) == 1, "it is unchanged"


async def test_a_bug_while_renewing_is_retried_until_the_lease_expires(
    pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    never_verified(pool)
    monkeypatch.setattr(executions, "renew", _Bug(1, executions.renew))
    pool.worker()
    await pool.drill.accept()
    await pool.until(in_the_gate)
    await asyncio.sleep(2.2)  # longer than the lease
    assert pool.on_error == ["lease"]
    assert [event.type for event in await pool.drill.events()].count("resumed") == 0


async def test_a_worker_without_a_lease_because_of_a_bug_ends(
    pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could not act, but would continue to accept."""
    monkeypatch.setattr(executions, "register", _Bug(ALWAYS))
    with pytest.raises(ZeroDivisionError):
        await Worker(pool.drill.journal, pool.policy_set, Connections).run()


class _Broken:
    """A journal that fails while `broken` is set."""

    def __init__(self, whole: Database) -> None:
        self._whole, self.broken = whole, False
        self.exclusive = False

    def __getattr__(self, name: str) -> Any:
        if self.broken and name in ("transaction", "read", "lease_transaction"):
            return self._fails
        return getattr(self._whole, name)

    async def _fails(self, *_: Any, **__: Any) -> Any:
        raise JournalUnavailable("it is unavailable")


async def test_a_journal_that_becomes_unavailable_and_recovers(
    pool: WorkerPool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    never_verified(pool)
    await pool.drill.accept()
    broken = _Broken(pool.drill.journal)
    pool.worker(journal=broken)
    await pool.until(in_the_gate)
    monkeypatch.setattr(executions, "_HANDING_OVER", timedelta())
    broken.broken = True
    pool.drill.health.sick = set()
    async with asyncio.timeout(60):
        while "execution interrupted" not in caplog.messages:
            await asyncio.sleep(0.01)
    broken.broken = False
    async with asyncio.timeout(60):
        await pool.until(lambda x: x.steps_started > 2 or x.state == "closed")
    # The link was switched once, despite the failures of the journal.
    assert pool.drill.stage.outside() == pool.drill.stage.rolled_back


async def test_approval(pool: WorkerPool) -> None:
    await _accept_held(pool)
    pool.worker()
    held = await pool.until(lambda x: x.state == "awaiting_approval")
    assert held.plan is not None
    assert pool.drill.stage.outside() == pool.drill.stage.before
    approved = Approved(at=datetime.now(UTC), by="alice", plan_hash=held.plan.hash)
    await pool.drill.journal.transaction(rollbacks.append, held, [approved], None)
    await pool.until(in_the_gate)
    assert pool.drill.stage.outside() == pool.drill.stage.rolled_back


async def test_an_unapproved_plan_is_cancelled(pool: WorkerPool) -> None:
    await _accept_held(pool)
    pool.policy_set = lambda: PolicySet(  # type: ignore[method-assign]
        services=(pool.drill.stage.service,), policies=(_policy(approve_within="50ms"),)
    )
    pool.worker()
    ended = await pool.until(over)
    assert (ended.outcome, ended.reason) == ("cancelled", "not approved in time")
    assert pool.drill.stage.outside() == pool.drill.stage.before


def _policy(**more: Any) -> Any:
    from responder.decisions.policies import Policy

    return Policy.model_validate({"name": "drill", "match": ["a=b"], "roll_back": ["shop"], **more})


async def _accept_held(pool: WorkerPool) -> None:
    """Accepted, but requires approval."""
    original = rollbacks.accept

    async def with_approval(tx: Any, execution_id: str, accepted: Any) -> Any:
        return await original(
            tx, execution_id, accepted.model_copy(update={"approval_reason": "the policy requires approval"})
        )

    rollbacks.accept = with_approval  # type: ignore[assignment]
    try:
        await pool.drill.accept()
    finally:
        rollbacks.accept = original


async def test_the_findings_of_the_current_gate_are_visible_on_the_executing_replica(pool: WorkerPool) -> None:
    never_verified(pool)
    await pool.drill.accept()
    worker = pool.worker()
    assert worker.findings(pool.drill.id) == []
    await pool.until(in_the_gate)
    async with asyncio.timeout(60):
        while not worker.findings(pool.drill.id):
            await asyncio.sleep(0.01)
    (finding,) = worker.findings(pool.drill.id)
    assert (finding.holds, "answered 503" in finding.reason) == (False, True)
    await pool.drill.journal.transaction(executions.request_stop, pool.drill.id, "alice", "enough")
    await pool.until(over)
    async with asyncio.timeout(60):
        while worker.findings(pool.drill.id):
            await asyncio.sleep(0.01)

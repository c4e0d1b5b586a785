"""Executes the rollbacks that the worker has claimed, each in its own task, until it ends or the lease is lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from responder.backends.check import Finding
from responder.backends.connections import Connections
from responder.backends.registries import GateCheck
from responder.decisions.evaluation import others_in_trouble
from responder.decisions.policy_set import PolicySet
from responder.errors import JournalUnavailable, LeaseLost
from responder.errors import StepFailed as StepError
from responder.evidence.collector import EvidenceCollector
from responder.journal import Database, Transaction
from responder.logging import say
from responder.operations.planning import plan_rollback
from responder.rollback.events import Event, EvidenceCollected, StepFailed, StepStarted
from responder.rollback.execution import Execution
from responder.rollback.executor import execute
from responder.rollback.gateway import Gateway
from responder.rollback.plan import Plan
from responder.rollback.ports import Ports
from responder.rollback.version_change import VersionChange
from responder.runtime.lease import Lease
from responder.runtime.stop_signal import ExecutionStopSignal
from responder.services import registry, rollbacks

log = logging.getLogger("responder.worker")

Listener = Callable[[Execution, tuple[Event, ...]], None]
"""Receives all events once they are committed. It must not wait and must not raise."""


@dataclass
class _Running:
    task: asyncio.Task[None]
    stop_signal: ExecutionStopSignal
    findings: dict[str, Finding]  # by check, since the current step started


class Runner:
    """The executions that run in this process."""

    def __init__(
        self,
        journal: Database,
        policy_set: Callable[[], PolicySet],
        connections: Callable[[], Connections],
        listeners: tuple[Listener, ...],
        evidence_collector: Callable[[], EvidenceCollector | None],
    ) -> None:
        self._journal, self._policy_set, self._connections = journal, policy_set, connections
        self._listeners, self._evidence_collector = listeners, evidence_collector
        self._running: dict[str, _Running] = {}

    def __len__(self) -> int:
        return len(self._running)

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._running))

    def __contains__(self, execution_id: str) -> bool:
        return execution_id in self._running

    def start(self, execution: Execution, lease: Lease, *, decided_now: bool = False) -> None:
        """Starts or resumes an execution. `decided_now`: the guards have just allowed it."""
        stop_signal = ExecutionStopSignal(self._journal, self._policy_set, self._connections)
        if decided_now:
            stop_signal.decided_now()
        findings: dict[str, Finding] = {}
        work = self._execute(execution, lease, stop_signal, findings)
        task = asyncio.create_task(work, name=f"rollback-{execution.id}")
        self._running[execution.id] = _Running(task, stop_signal, findings)

    def wake(self) -> None:
        """Makes every execution check for a stop request now."""
        for running in self._running.values():
            running.stop_signal.wake.set()

    def findings(self, execution_id: str) -> list[Finding]:
        """The last result of each check of the current step; empty if another replica runs the execution."""
        running = self._running.get(execution_id)
        return list(running.findings.values()) if running else []

    async def finish(self, within: float) -> None:
        """Waits for the executions to end, at most so many seconds."""
        if tasks := [running.task for running in self._running.values()]:
            await asyncio.wait(tasks, timeout=within)

    async def cancel(self) -> None:
        """Interrupts all executions, as a crash would."""
        tasks = [running.task for running in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._running.clear()

    def publish(self, execution: Execution, events: tuple[Event, ...]) -> None:
        """Passes committed events to the listeners."""
        for listener in self._listeners:
            listener(execution, events)

    async def append(self, lease: Lease | None, execution: Execution, *events: Event) -> Execution:
        """Commits events, and returns the execution after them. Raises LeaseLost and JournalUnavailable."""
        after = await self._journal.transaction(rollbacks.append, execution, events, lease.id if lease else None)
        if lease and after.state == "awaiting_approval":
            await self._journal.transaction(_release, after.id, lease.id)
        if (running := self._running.get(after.id)) and any(isinstance(event, StepStarted) for event in events):
            running.findings.clear()
        self.publish(after, events)
        return after

    async def _execute(
        self, execution: Execution, lease: Lease, stop_signal: ExecutionStopSignal, findings: dict[str, Finding]
    ) -> None:
        def saw(check: GateCheck, finding: Finding) -> None:
            findings[check.model_dump_json()] = finding

        try:
            ports = Ports(
                record=_JournalRecord(self, lease),
                gateway=Gateway(self._connections(), guard=lease.guard, saw=saw),
                stop_signal=stop_signal,
                plan_for=self._plan,
                keep=lambda execution: self._collect_evidence(execution, lease),
                approval_within=self._policy_set().policy(execution.accepted.policy).approve_within,
                now=self._journal.now,
            )
            await execute(execution, ports)
        except LeaseLost as e:
            say(log, "execution taken over", level=logging.WARNING, execution=execution.id, reason=str(e))
        except JournalUnavailable as e:
            # As after a crash: the journal has the state, and the claim loop resumes from it.
            say(log, "execution interrupted", level=logging.ERROR, execution=execution.id, reason=str(e))
        except Exception:
            # A bug is not a failed step. It is retried like a crash, and after several retries the execution is stuck.
            log.exception("execution failed with a bug", extra={"fields": {"execution": execution.id}})
        finally:
            self._running.pop(execution.id, None)

    async def _collect_evidence(self, execution: Execution, lease: Lease) -> EvidenceCollected | None:
        collector = self._evidence_collector()
        return await collector.collect_for_rollback(execution, lease.guard) if collector else None

    async def _plan(self, execution: Execution) -> Plan:
        accepted, policy_set = execution.accepted, self._policy_set()
        for version in accepted.parts:
            # It may have been queued or awaited approval, and the target may have been marked meanwhile.
            if problem := await self._journal.read(_target_problem, version):
                raise StepError(problem)
        return await plan_rollback(
            [version.model_copy(update={"execution": execution.id}) for version in accepted.parts],
            policy=policy_set.policy(accepted.policy),
            policy_set=policy_set,
            alerts=() if accepted.forced else accepted.alerts,
            journal=self._journal,
            gateway=Gateway(self._connections()),
        )

    async def explain_failure(self, execution: Execution, failed: StepFailed) -> StepFailed:
        """Names other services in trouble. Slowly spreading problems are noticed only when the first rollbacks fail."""
        others = await self._journal.read(others_in_trouble, execution, self._policy_set(), failed.at)
        if not others:
            return failed
        named = ", ".join(others[:5]) + (" …" if len(others) > 5 else "")
        why = f"{failed.reason}; alerts request rollbacks of {named} as well: they may share a cause"
        return failed.model_copy(update={"reason": why})


class _JournalRecord:
    """The record of the executor: the journal, behind the fence of the lease."""

    def __init__(self, runner: Runner, lease: Lease) -> None:
        self._runner, self._lease = runner, lease

    async def append(self, execution: Execution, *events: Event) -> Execution:
        explained = [
            await self._runner.explain_failure(execution, event) if isinstance(event, StepFailed) else event
            for event in events
        ]
        return await self._runner.append(self._lease, execution, *explained)


async def _target_problem(tx: Transaction, version: VersionChange) -> str:
    """Why the target can no longer be used; empty if it can."""
    where = {"service": version.service, "environment": version.environment}
    target = await tx.first("version", **where, version=version.to_version)
    if target and target["status"] in registry.NEVER_A_TARGET:
        return f"{version.to_version} is now {target['status']}: {target['reason']}"
    protected = await tx.first("protected_since", **where, target=version.to_version)
    return f"{protected['version']} is now protected: {protected['no_rollback']}" if protected else ""


async def _release(tx: Transaction, execution_id: str, worker: str) -> None:
    await tx.all("release_execution", execution=execution_id, worker=worker)

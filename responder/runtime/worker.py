"""Claims what was accepted, carries it out under a lease, goes on after a crash, and gives up after N resumptions."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from responder import errors
from responder.backends.check import Finding
from responder.backends.connections import Connections
from responder.backends.registries import GateCheck
from responder.decisions.alert_state import ask_watchdog
from responder.decisions.evaluation import others_in_trouble
from responder.decisions.policy_set import PolicySet
from responder.errors import JournalUnavailable, LeaseLost
from responder.evidence.keeper import Keeper
from responder.evidence.maintenance import maintain
from responder.journal import Database, Transaction, executions
from responder.logging import say
from responder.operations.approve import end_approval
from responder.operations.decided import Decided
from responder.operations.planning import plan_rollback
from responder.operations.respond import Claimer, respond
from responder.rollback.events import (
    Event,
    EvidenceCollected,
    RetriesExhausted,
    StepFailed,
    StepStarted,
)
from responder.rollback.execution import Execution
from responder.rollback.executor import execute
from responder.rollback.gateway import Gateway
from responder.rollback.plan import Plan
from responder.rollback.ports import Ports
from responder.rollback.version_change import VersionChange
from responder.runtime.collateral import Quiet
from responder.runtime.lease import Lease
from responder.runtime.leftovers import remove_leftovers
from responder.runtime.promotion import promote
from responder.runtime.stop_signal import StopSignal, stop_request_of
from responder.runtime.waiting import Waiting
from responder.services import registry, rollbacks
from responder.transport.background import OnError, run_loop

log = logging.getLogger("responder.worker")

Listener = Callable[[Execution, tuple[Event, ...]], None]
"""Is told of every event once it is committed; it must not wait and must not raise."""

_CLAIMS_AGAIN = 5.0
"""Seconds at most until claiming is tried again after a bug: a rollback may be waiting for nothing else."""


_TIDIES_EVERY = 60.0
"""Seconds between two looks for what a superseded replica has left behind."""


@dataclass
class _Run:
    task: asyncio.Task[None]
    stop_signal: StopSignal
    findings: dict[str, Finding]  # by check, since the step was begun


class Worker:
    """One per process. Several, on a shared journal, are interchangeable: any of them finishes what another began."""

    def __init__(
        self,
        journal: Database,
        policy_set: Callable[[], PolicySet],
        connections: Callable[[], Connections],
        *,
        concurrent: int = 1,
        lease: float = 15.0,
        resume_at_most: int = 5,
        poll: float = 1.0,
        listeners: tuple[Listener, ...] = (),
        keeper: Callable[[], Keeper | None] = lambda: None,
        on_error: OnError = lambda loop: None,
        judged: Callable[[Sequence[Decided]], None] = lambda decided: None,
    ) -> None:
        self.journal = journal
        self.policy_set = policy_set
        self.connections = connections
        self._concurrent = concurrent
        self._lease_seconds = lease
        self._resume_at_most = resume_at_most
        self._poll = poll
        self._listeners = listeners
        self._keeper = keeper
        self._stumbled = on_error
        self._judged = judged
        self.disarmed = ""  # why, where the watchdog is silenced by now; for people and for `responder_armed`
        self._lease: Lease | None = None
        self._running: dict[str, _Run] = {}
        self._closing = False

    @property
    def has_lease(self) -> bool:
        """Whether this process may act now."""
        return self._lease is not None

    @property
    def claimer(self) -> Claimer | None:
        """For `respond`, so that it claims what it accepts on this worker's behalf; None where it cannot act now."""
        if self._lease is None or self._closing or len(self._running) >= self._concurrent:
            return None
        with contextlib.suppress(LeaseLost):
            self._lease.guard()
            return Claimer(worker=self._lease.id, concurrent=self._concurrent)
        return None

    def take_over(self, execution: Execution) -> None:
        """Begins at once with what was accepted and claimed for this worker."""
        if self._lease is not None and not self._closing and execution.id not in self._running:
            stop_signal = StopSignal(self.journal, self.policy_set, self.connections)
            stop_signal.decided_now()
            self._begin(execution, self._lease, stop_signal)

    def begin(self, decided: Iterable[Decided]) -> None:
        """Logs each verdict, and begins at once with what was accepted and claimed for this worker."""
        for decision in decided:
            if decision.execution and decision.claimed:
                self.take_over(decision.execution)
            say(log, "decision", **decision.payload())

    async def _judge_again(self, waiting: Waiting) -> None:
        due = await waiting.due()
        for incidents, trouble_visible in ((due.visible, True), (due.unresolved, False)):
            if incidents:
                decided = await respond(
                    incidents,
                    policy_set=self.policy_set(),
                    journal=self.journal,
                    connections=self.connections(),
                    claimer=self.claimer,
                    trouble_visible=trouble_visible,
                )
                self._judged(decided)
                self.begin(decided)

    async def run(self) -> None:
        """Works until cancelled. A lost lease ends everything that was begun under it; then a new one is taken."""
        while True:
            lease = Lease(self.journal, self._lease_seconds, on_error=self._stumbled)
            try:
                if self.journal.exclusive:  # whoever held a lease on this file is dead: its lock was free
                    await self.journal.transaction(_end_all_leases)
                await lease.take()
            except JournalUnavailable as e:
                say(log, "no lease", level=logging.ERROR, reason=str(e))
                await asyncio.sleep(self._poll)
                continue
            self._lease = lease
            keeping = asyncio.create_task(lease.keep(), name="lease")
            own = [keeping, *(asyncio.create_task(work) for work in self._works(lease))]
            try:
                done, _ = await asyncio.wait(own, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    with contextlib.suppress(LeaseLost):
                        task.result()
                say(log, "lease lost", level=logging.ERROR, worker=lease.id)
            finally:
                self._lease = None
                everything = [*own, *(run.task for run in self._running.values())]
                for task in everything:
                    task.cancel()
                await asyncio.gather(*everything, return_exceptions=True)
                self._running.clear()

    async def close(self, grace: float = 5.0) -> None:
        """Takes nothing new, gives what is under way so long to end, and lets others go on with the rest at once."""
        self._closing = True
        if tasks := [run.task for run in self._running.values()]:
            await asyncio.wait(tasks, timeout=grace)
        if self._lease is not None:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with contextlib.suppress(JournalUnavailable):
                await self.journal.lease_transaction(_end_lease, self._lease.id)

    def _works(self, lease: Lease) -> Iterator[Coroutine[Any, Any, None]]:
        """Each by itself: Alertmanager or checks may be slow to answer, and a bug in one is none in the others."""
        poll, on_error = self._poll, self._stumbled
        claim, quiet = partial(self._claim, lease), partial(self._keep_quiet, Quiet(self.journal))
        yield run_loop("claims", claim, every=poll, on_error=on_error, wait=self._listen, longest=_CLAIMS_AGAIN)
        yield run_loop("expiry", self._expire, every=poll, on_error=on_error)
        again = partial(self._judge_again, Waiting(self.journal, self.policy_set, self.connections))
        yield run_loop("waiting", again, every=poll * 2, on_error=on_error)
        yield run_loop("promotion", self._promote, every=poll, on_error=on_error)
        yield run_loop("collateral", quiet, every=poll * 2, on_error=on_error)
        yield run_loop("watchdog", self._watch, every=poll * 2, on_error=on_error)
        yield run_loop("leftovers", self._tidy, every=_TIDIES_EVERY, on_error=on_error)
        yield maintain(self._keeper, worker=lease.id, guard=lease.guard, poll=poll, on_error=on_error)

    async def _listen(self, within: float) -> None:
        if await self.journal.changed(within):
            for run in self._running.values():
                run.stop_signal.wake.set()

    async def _promote(self) -> None:
        for deployment in await promote(self.journal, self.policy_set(), self._world(), self.journal.now()):
            say(log, "known good", service=deployment.service, version=deployment.version)

    async def _keep_quiet(self, quiet: Quiet) -> None:
        await quiet.keep(self._running, self.policy_set(), self.connections())

    async def _tidy(self) -> None:
        for name in await remove_leftovers(self.journal, self.policy_set(), self.connections()):
            say(log, "leftover container removed", container=name)

    async def _watch(self) -> None:
        try:
            watchdog = self.policy_set().watchdog
            live = await ask_watchdog(watchdog, self.connections()) if watchdog else None
            self.disarmed = "" if live is None or live.state == "firing" else live.reason
        except Exception:
            self.disarmed = "cannot tell whether the watchdog alert is silenced: the log has the bug"
            raise

    async def _claim(self, lease: Lease) -> None:
        if self._closing:
            return
        try:
            await self._claim_more(lease)
        except JournalUnavailable as e:
            say(log, "journal unavailable", level=logging.ERROR, reason=str(e))
            raise

    async def _claim_more(self, lease: Lease) -> None:
        lease.guard()
        claimed, unreadable = await self.journal.transaction(
            executions.claim, lease.id, self.journal.now(), concurrent=self._concurrent, running=tuple(self._running)
        )
        for execution, resumptions in claimed:
            if execution.id in self._running:
                continue
            if resumptions:
                say(log, "resumed", execution=execution.id, times=resumptions, state=execution.state)
            if resumptions > self._resume_at_most:
                why = f"it was resumed {resumptions} times and never came to an end"
                await self._append(lease, execution, RetriesExhausted(at=self.journal.now(), reason=why))
            else:
                self._begin(execution, lease, StopSignal(self.journal, self.policy_set, self.connections))
        for execution_id, error in unreadable.items():
            raise ValueError(f"the execution {execution_id} cannot be read here") from error

    def _begin(self, execution: Execution, lease: Lease, stop_signal: StopSignal) -> None:
        findings: dict[str, Finding] = {}
        work = self._carry_out(execution, lease, stop_signal, findings)
        self._running[execution.id] = _Run(
            asyncio.create_task(work, name=f"rollback-{execution.id}"), stop_signal, findings
        )

    async def _carry_out(
        self, execution: Execution, lease: Lease, stop_signal: StopSignal, findings: dict[str, Finding]
    ) -> None:
        record = _Record(self, lease)

        def saw(check: GateCheck, finding: Finding) -> None:
            findings[check.model_dump_json()] = finding

        try:
            ports = Ports(
                record=record,
                gateway=Gateway(self.connections(), guard=lease.guard, saw=saw),
                stop_signal=stop_signal,
                plan_for=self._plan,
                keep=lambda execution: self._keep_evidence(execution, lease),
                approval_within=self.policy_set().policy(execution.accepted.policy).approve_within,
                now=self.journal.now,
            )
            await execute(execution, ports)
        except LeaseLost as e:
            say(log, "superseded", level=logging.WARNING, execution=execution.id, reason=str(e))
        except JournalUnavailable as e:
            # As after a crash: what is in the journal is true, and the claim loop goes on from there.
            say(log, "interrupted", level=logging.ERROR, execution=execution.id, reason=str(e))
        except Exception:
            # A bug is not a Halt. It is tried anew like a crash, and after N times the execution is stuck, not looping.
            log.exception("carrying out failed", extra={"fields": {"execution": execution.id}})
        finally:
            self._running.pop(execution.id, None)

    def findings(self, execution_id: str) -> list[Finding]:
        """What each check of the step under way found last; empty where another replica carries it out."""
        run = self._running.get(execution_id)
        return list(run.findings.values()) if run else []

    def _world(self) -> Gateway:
        return Gateway(self.connections())

    async def _keep_evidence(self, execution: Execution, lease: Lease) -> EvidenceCollected | None:
        keeper = self._keeper()
        return await keeper.of_rollback(execution, lease.guard) if keeper else None

    async def _plan(self, execution: Execution) -> Plan:
        accepted, policy_set = execution.accepted, self.policy_set()
        for version in accepted.parts:
            # It may have waited for its turn, or for an approval, while somebody learned more about it.
            if problem := await self.journal.read(_closed_by_now, version):
                raise errors.StepFailed(problem)
        return await plan_rollback(
            [version.model_copy(update={"execution": execution.id}) for version in accepted.parts],
            policy=policy_set.policy(accepted.policy),
            policy_set=policy_set,
            alerts=() if accepted.forced else accepted.alerts,
            journal=self.journal,
            gateway=self._world(),
        )

    def publish(self, execution: Execution, events: tuple[Event, ...]) -> None:
        """Lets everybody know who listens to what was committed."""
        for listener in self._listeners:
            listener(execution, events)

    async def _append(self, lease: Lease | None, execution: Execution, *events: Event) -> Execution:
        after = await self.journal.transaction(rollbacks.append, execution, events, lease.id if lease else None)
        if lease and after.state == "awaiting_approval":
            await self.journal.transaction(_release, after.id, lease.id)
        if (run := self._running.get(after.id)) and any(isinstance(event, StepStarted) for event in events):
            run.findings.clear()
        self.publish(after, events)
        return after

    async def _expire(self) -> None:
        """Cancels plans that somebody stopped, or that nobody approved in time and whose trouble is over.

        While the trouble goes on the request is renewed quietly: people were asked once.
        """
        now, policy_set = self.journal.now(), self.policy_set()
        for execution in await self.journal.read(_held):
            stop = await self.journal.read(stop_request_of, execution.id)
            if stop is None and (execution.approve_before is None or now < execution.approve_before):
                continue
            events = await end_approval(
                execution, stop, policy_set=policy_set, journal=self.journal, connections=self.connections(), now=now
            )
            with contextlib.suppress(LeaseLost):  # approved at this very moment
                await self._append(None, execution, *events)


class _Record:
    """What `carry_out` writes to: the journal, behind the fence of this lease."""

    def __init__(self, worker: Worker, lease: Lease) -> None:
        self._worker, self._lease = worker, lease

    async def append(self, execution: Execution, *events: Event) -> Execution:
        completed = [
            await self._with_others(execution, event) if isinstance(event, StepFailed) else event for event in events
        ]
        return await self._worker._append(self._lease, execution, *completed)

    async def _with_others(self, execution: Execution, halted: StepFailed) -> StepFailed:
        """A storm that spreads slowly shows only while the first rollbacks fail: say so."""
        worker = self._worker
        others = await worker.journal.read(others_in_trouble, execution, worker.policy_set(), halted.at)
        if not others:
            return halted
        named = ", ".join(others[:5]) + (" …" if len(others) > 5 else "")
        why = f"{halted.reason}; alerts want rollbacks of {named} as well: the cause may be one that they share"
        return halted.model_copy(update={"reason": why})


async def _closed_by_now(tx: Transaction, version: VersionChange) -> str:
    """Why the target is none any more; empty where it still is one."""
    where = {"service": version.service, "environment": version.environment}
    target = await tx.first("version", **where, version=version.to_version)
    if target and target["status"] in registry.NEVER_A_TARGET:
        return f"{version.to_version} is {target['status']} by now: {target['reason']}"
    protected = await tx.first("protected_since", **where, target=version.to_version)
    return f"{protected['version']} must stay by now: {protected['no_rollback']}" if protected else ""


async def _held(tx: Transaction) -> list[Execution]:
    return [
        await executions.load(tx, row["id"])
        for row in await tx.all("open_executions")
        if row["state"] == "awaiting_approval"
    ]


async def _release(tx: Transaction, execution_id: str, worker: str) -> None:
    await tx.all("release_execution", execution=execution_id, worker=worker)


async def _end_lease(tx: Transaction, worker: str) -> None:
    await tx.all("end_lease", worker=worker)
    tx.notify()


async def _end_all_leases(tx: Transaction) -> None:
    await tx.all("end_all_leases")

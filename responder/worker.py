"""Claims what was accepted, carries it out under a lease, goes on after a crash, and gives up after N resumptions."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from responder import together
from responder.carry_out import carry_out
from responder.checks import Finding, GateCheck
from responder.clients import Connections
from responder.errors import Halt, JournalUnavailable, Superseded
from responder.evaluation import others_in_trouble
from responder.evidence.keeper import Keeper
from responder.evidence.upkeep import look_after
from responder.execution import Event, Execution, GaveUp, Halted, Kept, Part, Started
from responder.journal import Database, Transaction, deployments, executions
from responder.lease import Lease
from responder.leftovers import remove_leftovers
from responder.live import ask_watchdog
from responder.logs import say
from responder.noise import Quiet
from responder.operations.approving import after_waiting
from responder.plan import Plan
from responder.policies import Mandate
from responder.promotion import promote
from responder.reins import Reins, stop_of
from responder.respond import Claimer, Decided, respond
from responder.rounds import Stumbled, go_round
from responder.strategies import Target
from responder.trouble_check import TroubleCheck
from responder.waiting import Waiting
from responder.world import World

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
    reins: Reins
    findings: dict[str, Finding]  # by check, since the step was begun


class Worker:
    """One per process. Several, on a shared journal, are interchangeable: any of them finishes what another began."""

    def __init__(
        self,
        journal: Database,
        mandate: Callable[[], Mandate],
        connections: Callable[[], Connections],
        *,
        concurrent: int = 1,
        lease: float = 15.0,
        resume_at_most: int = 5,
        poll: float = 1.0,
        listeners: tuple[Listener, ...] = (),
        keeper: Callable[[], Keeper | None] = lambda: None,
        stumbled: Stumbled = lambda loop: None,
        judged: Callable[[Sequence[Decided]], None] = lambda decided: None,
    ) -> None:
        self.journal = journal
        self.mandate = mandate
        self.connections = connections
        self._concurrent = concurrent
        self._lease_seconds = lease
        self._resume_at_most = resume_at_most
        self._poll = poll
        self._listeners = listeners
        self._keeper = keeper
        self._stumbled = stumbled
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
        with contextlib.suppress(Superseded):
            self._lease.guard()
            return Claimer(worker=self._lease.id, concurrent=self._concurrent)
        return None

    def take_over(self, execution: Execution) -> None:
        """Begins at once with what was accepted and claimed for this worker."""
        if self._lease is not None and not self._closing and execution.id not in self._running:
            reins = Reins(self.journal, self.mandate, self.connections)
            reins.decided_now()
            self._begin(execution, self._lease, reins)

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
                    mandate=self.mandate(),
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
            lease = Lease(self.journal, self._lease_seconds, stumbled=self._stumbled)
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
                    with contextlib.suppress(Superseded):
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
        poll, stumbled = self._poll, self._stumbled
        claim, quiet = partial(self._claim, lease), partial(self._keep_quiet, Quiet(self.journal))
        yield go_round("claims", claim, every=poll, stumbled=stumbled, wait=self._listen, longest=_CLAIMS_AGAIN)
        yield go_round("expiry", self._expire, every=poll, stumbled=stumbled)
        again = partial(self._judge_again, Waiting(self.journal, self.mandate, self.connections))
        yield go_round("waiting", again, every=poll * 2, stumbled=stumbled)
        yield go_round("promotion", self._promote, every=poll, stumbled=stumbled)
        yield go_round("noise", quiet, every=poll * 2, stumbled=stumbled)
        yield go_round("watchdog", self._watch, every=poll * 2, stumbled=stumbled)
        yield go_round("leftovers", self._tidy, every=_TIDIES_EVERY, stumbled=stumbled)
        yield look_after(self._keeper, worker=lease.id, guard=lease.guard, poll=poll, stumbled=stumbled)

    async def _listen(self, within: float) -> None:
        if await self.journal.changed(within):
            for run in self._running.values():
                run.reins.stirred.set()

    async def _promote(self) -> None:
        for deployment in await promote(self.journal, self.mandate(), self._world(), self.journal.now()):
            say(log, "known good", service=deployment.service, version=deployment.version)

    async def _keep_quiet(self, quiet: Quiet) -> None:
        await quiet.keep(self._running, self.mandate(), self.connections())

    async def _tidy(self) -> None:
        for name in await remove_leftovers(self.journal, self.mandate(), self.connections()):
            say(log, "leftover container removed", container=name)

    async def _watch(self) -> None:
        try:
            watchdog = self.mandate().watchdog
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
                await self._append(lease, execution, GaveUp(at=self.journal.now(), reason=why))
            else:
                self._begin(execution, lease, Reins(self.journal, self.mandate, self.connections))
        for execution_id, error in unreadable.items():
            raise ValueError(f"the execution {execution_id} cannot be read here") from error

    def _begin(self, execution: Execution, lease: Lease, reins: Reins) -> None:
        findings: dict[str, Finding] = {}
        work = self._carry_out(execution, lease, reins, findings)
        self._running[execution.id] = _Run(asyncio.create_task(work, name=f"rollback-{execution.id}"), reins, findings)

    async def _carry_out(self, execution: Execution, lease: Lease, reins: Reins, findings: dict[str, Finding]) -> None:
        record = _Record(self, lease)

        def saw(check: GateCheck, finding: Finding) -> None:
            findings[check.model_dump_json()] = finding

        try:
            await carry_out(
                execution,
                record=record,
                world=World(self.connections(), guard=lease.guard, saw=saw),
                reins=reins,
                plan_for=self._plan,
                keep=lambda execution: self._keep_evidence(execution, lease),
                approval_within=self.mandate().policy(execution.accepted.policy).approve_within,
                now=self.journal.now,
            )
        except Superseded as e:
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

    def _world(self) -> World:
        return World(self.connections())

    async def _keep_evidence(self, execution: Execution, lease: Lease) -> Kept | None:
        keeper = self._keeper()
        return await keeper.of_rollback(execution, lease.guard) if keeper else None

    async def _plan(self, execution: Execution) -> Plan:
        accepted, mandate = execution.accepted, self.mandate()
        parts = []
        for part in accepted.parts:
            service, problem = mandate.service(part.service, accepted.environment)
            if service is None:
                raise Halt(problem)
            # It may have waited for its turn, or for an approval, while somebody learned more about it.
            if problem := await self.journal.read(_closed_by_now, part, accepted.environment):
                raise Halt(problem)
            where = (part.service, accepted.environment, part.from_version, part.to_version)
            made_of = await self.journal.read(deployments.artifacts_between, *where)
            versions = {**part.model_dump(exclude={"strategy"}), **made_of}
            target = Target(environment=accepted.environment, execution=execution.id, **versions)
            parts.append(together.Part(service, target, part.strategy))
        policy = mandate.policy(accepted.policy)
        return await together.plan(
            parts,
            self._world(),
            verify_for=policy.verify.bake,
            verify_within=policy.verify.within,
            needs=mandate.needs,
            order=policy.order,
            trouble=None
            if accepted.forced
            else TroubleCheck.of(accepted.alerts, policy.expression, accepted.service, accepted.environment),
        )

    def tell(self, execution: Execution, events: tuple[Event, ...]) -> None:
        """Lets everybody know who listens to what was committed."""
        for listener in self._listeners:
            listener(execution, events)

    async def _append(self, lease: Lease | None, execution: Execution, *events: Event) -> Execution:
        after = await self.journal.transaction(executions.append, execution, events, lease.id if lease else None)
        if lease and after.state == "held":
            await self.journal.transaction(_release, after.id, lease.id)
        if (run := self._running.get(after.id)) and any(isinstance(event, Started) for event in events):
            run.findings.clear()
        self.tell(after, events)
        return after

    async def _expire(self) -> None:
        """Cancels plans that somebody stopped, or that nobody approved in time and whose trouble is over.

        While the trouble goes on the request is renewed quietly: people were asked once.
        """
        now, mandate = self.journal.now(), self.mandate()
        for execution in await self.journal.read(_held):
            stop = await self.journal.read(stop_of, execution.id)
            if stop is None and (execution.held_until is None or now < execution.held_until):
                continue
            events = await after_waiting(
                execution, stop, mandate=mandate, journal=self.journal, connections=self.connections(), now=now
            )
            with contextlib.suppress(Superseded):  # approved at this very moment
                await self._append(None, execution, *events)


class _Record:
    """What `carry_out` writes to: the journal, behind the fence of this lease."""

    def __init__(self, worker: Worker, lease: Lease) -> None:
        self._worker, self._lease = worker, lease

    async def append(self, execution: Execution, *events: Event) -> Execution:
        completed = [
            await self._with_others(execution, event) if isinstance(event, Halted) else event for event in events
        ]
        return await self._worker._append(self._lease, execution, *completed)

    async def _with_others(self, execution: Execution, halted: Halted) -> Halted:
        """A storm that spreads slowly shows only while the first rollbacks fail: say so."""
        worker = self._worker
        others = await worker.journal.read(others_in_trouble, execution, worker.mandate(), halted.at)
        if not others:
            return halted
        named = ", ".join(others[:5]) + (" …" if len(others) > 5 else "")
        why = f"{halted.reason}; alerts want rollbacks of {named} as well: the cause may be one that they share"
        return halted.model_copy(update={"reason": why})


async def _closed_by_now(tx: Transaction, part: Part, environment: str) -> str:
    """Why the target is none any more; empty where it still is one."""
    where = {"service": part.service, "environment": environment}
    target = await tx.first("version", **where, version=part.to_version)
    if target and target["status"] in deployments.NO_TARGET:
        return f"{part.to_version} is {target['status']} by now: {target['reason']}"
    protected = await tx.first("no_rollback_since", **where, target=part.to_version)
    return f"{protected['version']} must stay by now: {protected['no_rollback']}" if protected else ""


async def _held(tx: Transaction) -> list[Execution]:
    return [await executions.load(tx, row["id"]) for row in await tx.all("open_executions") if row["state"] == "held"]


async def _release(tx: Transaction, execution_id: str, worker: str) -> None:
    await tx.all("release", execution=execution_id, worker=worker)


async def _end_lease(tx: Transaction, worker: str) -> None:
    await tx.all("end_lease", worker=worker)
    tx.notify()


async def _end_all_leases(tx: Transaction) -> None:
    await tx.all("end_all_leases")

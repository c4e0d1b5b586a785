"""Claims accepted executions under a lease and runs them, resumes them after a crash, and runs the background loops."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from responder.backends.check import Finding
from responder.backends.connections import Connections
from responder.decisions.alert_state import query_watchdog
from responder.decisions.policy_set import PolicySet
from responder.errors import JournalUnavailable, LeaseLost
from responder.evidence.collector import EvidenceCollector
from responder.evidence.maintenance import maintain
from responder.journal import Bulk, Database, Transaction, executions
from responder.logging import say
from responder.operations.approve import end_approval
from responder.operations.decided import Decided
from responder.operations.respond import Claimer, respond
from responder.rollback.events import Event, RetriesExhausted
from responder.rollback.execution import Execution
from responder.rollback.gateway import Gateway
from responder.runtime.collateral import CollateralSilences
from responder.runtime.lease import Lease
from responder.runtime.leftovers import remove_leftovers
from responder.runtime.pins import remove_outdated_pins
from responder.runtime.promotion import promote
from responder.runtime.retention import Retention
from responder.runtime.runner import Listener, Runner
from responder.runtime.stop_signal import stop_request_of
from responder.runtime.waiting import WaitingIncidents
from responder.services.observation import observe
from responder.transport.background import OnError, run_loop

log = logging.getLogger("responder.worker")

_LONGEST_CLAIM_RETRY = 5.0
"""Maximum seconds between two claims after a bug: a rollback may be waiting."""

_CLAIM_REST = 0.05
"""Seconds from a change in the journal to the claim of what is queued. What this process accepts it claims at once."""

_LEFTOVERS_EVERY = 60.0
"""Seconds between two searches for leftovers of a replica that lost its lease."""


_OBSERVED_EVERY = 10
"""Polls between two looks at the running versions. `reporting_delay` is longer, so the trouble is not older."""

_RETENTION_EVERY = 60.0
"""Seconds until a reload that configures `journal.retention` takes effect."""


class Worker:
    """One per process. Workers on a shared journal are interchangeable: each can resume the executions of another."""

    def __init__(
        self,
        journal: Database,
        policy_set: Callable[[], PolicySet],
        connections: Callable[[], Connections],
        *,
        concurrent: int = 1,
        lease: float = 15.0,
        max_resumptions: int = 5,
        poll: float = 1.0,
        listeners: tuple[Listener, ...] = (),
        evidence_collector: Callable[[], EvidenceCollector | None] = lambda: None,
        retention: Callable[[], Retention | None] = lambda: None,
        on_error: OnError = lambda loop: None,
        on_decided: Callable[[Sequence[Decided]], None] = lambda decided: None,
    ) -> None:
        self._journal = journal
        self._policy_set = policy_set
        self._connections = connections
        self._concurrent = concurrent
        self._lease_seconds = lease
        self._max_resumptions = max_resumptions
        self._poll = poll
        self._evidence_collector, self._retention = evidence_collector, retention
        self._on_error = on_error
        self._on_decided = on_decided
        self.disarmed = ""  # why, if the watchdog alert is silenced; shown to people and in `responder_armed`
        self._lease: Lease | None = None
        self._unobserved: dict[tuple[str, str], str] = {}  # by service: the reason that was logged last
        self._runner = Runner(journal, policy_set, connections, listeners, evidence_collector)
        self._closing = False

    @property
    def has_lease(self) -> bool:
        """Whether this process may act now."""
        return self._lease is not None

    @property
    def claimer(self) -> Claimer | None:
        """Lets `respond` claim what it accepts for this worker; None if the worker cannot start it now."""
        if self._lease is None or self._closing or len(self._runner) >= self._concurrent:
            return None
        with contextlib.suppress(LeaseLost):
            self._lease.guard()
            return Claimer(worker=self._lease.id, concurrent=self._concurrent)
        return None

    def begin(self, decided: Iterable[Decided]) -> None:
        """Logs each decision, and starts what was accepted and claimed for this worker."""
        for decision in decided:
            if decision.execution and decision.claimed:
                self.take_over(decision.execution)
            say(log, "decision", **decision.payload())

    def take_over(self, execution: Execution) -> None:
        """Starts an execution that was accepted and claimed for this worker just now."""
        if self._lease is not None and not self._closing and execution.id not in self._runner:
            self._runner.start(execution, self._lease, decided_now=True)

    def findings(self, execution_id: str) -> list[Finding]:
        """The last result of each check of the current step; empty if another replica runs the execution."""
        return self._runner.findings(execution_id)

    def publish(self, execution: Execution, events: tuple[Event, ...]) -> None:
        """Passes committed events to the listeners."""
        self._runner.publish(execution, events)

    async def run(self) -> None:
        """Runs until cancelled. When a lease is lost, interrupts all executions and takes a new lease."""
        while True:
            lease = Lease(self._journal, self._lease_seconds, on_error=self._on_error)
            try:
                if self._journal.exclusive:  # the file lock was free, so earlier lease holders are dead
                    await self._journal.transaction(_end_all_leases)
                await lease.take()
            except JournalUnavailable as e:
                say(log, "no lease", level=logging.ERROR, reason=str(e))
                await asyncio.sleep(self._poll)
                continue
            await self._run_under(lease)

    async def _run_under(self, lease: Lease) -> None:
        self._lease = lease
        keeping = asyncio.create_task(lease.keep(), name="lease")
        tasks = [keeping, *(asyncio.create_task(loop) for loop in self._loops(lease))]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                with contextlib.suppress(LeaseLost):
                    task.result()
            say(log, "lease lost", level=logging.ERROR, worker=lease.id)
        finally:
            self._lease = None
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, self._runner.cancel(), return_exceptions=True)

    async def close(self, grace: float = 5.0) -> None:
        """Starts nothing new, waits `grace` seconds for running executions, and releases the lease."""
        self._closing = True
        await self._runner.finish(grace)
        if self._lease is not None:
            await self._runner.cancel()
            with contextlib.suppress(JournalUnavailable):
                await self._journal.lease_transaction(_end_lease, self._lease.id)

    def _loops(self, lease: Lease) -> Iterator[Coroutine[Any, Any, None]]:
        """Runs each in its own task: a slow answer or a bug in one does not affect the others."""
        poll, on_error = self._poll, self._on_error
        claim = partial(self._claim, lease)
        revisit = partial(self._revisit, WaitingIncidents(self._journal, self._policy_set, self._connections))
        silence = partial(self._silence_collateral, CollateralSilences(self._journal))
        claims = partial(run_loop, "claims", claim, every=poll, on_error=on_error)
        yield claims(wait=self._wait, longest=_LONGEST_CLAIM_RETRY, rest=_CLAIM_REST)
        yield run_loop("expiry", self._expire, every=poll, on_error=on_error)
        yield run_loop("waiting", revisit, every=poll * 2, on_error=on_error)
        yield run_loop("promotion", self._promote, every=poll, on_error=on_error)
        yield run_loop("observation", self._observe, every=poll * _OBSERVED_EVERY, on_error=on_error)
        yield run_loop("collateral", silence, every=poll * 2, on_error=on_error)
        yield run_loop("watchdog", self._watch, every=poll * 2, on_error=on_error)
        yield run_loop("leftovers", partial(self._remove_leftovers, lease), every=_LEFTOVERS_EVERY, on_error=on_error)
        yield run_loop("retention", partial(self._archive, lease), every=_RETENTION_EVERY, on_error=on_error)
        yield maintain(self._evidence_collector, worker=lease.id, guard=lease.guard, poll=poll, on_error=on_error)

    async def _wait(self, within: float) -> None:
        if await self._journal.changed(within):
            self._runner.wake()

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
        claimed, unreadable = await self._journal.transaction(
            executions.claim, lease.id, self._journal.now(), concurrent=self._concurrent, running=tuple(self._runner)
        )
        for execution, resumptions in claimed:
            if execution.id in self._runner:
                continue
            if resumptions:
                say(log, "execution resumed", execution=execution.id, times=resumptions, state=execution.state)
            if resumptions > self._max_resumptions:
                why = f"it was resumed {resumptions} times and did not complete"
                await self._runner.append(lease, execution, RetriesExhausted(at=self._journal.now(), reason=why))
            else:
                self._runner.start(execution, lease)
        for execution_id, error in unreadable.items():
            raise ValueError(f"this version cannot read execution {execution_id}: upgrade this replica") from error

    async def _expire(self) -> None:
        """Cancels plans that a person stopped, or that were not approved in time and whose trouble is over.

        If the trouble continues, the request is renewed without another notification.
        """
        now, policy_set = self._journal.now(), self._policy_set()
        for execution in await self._journal.read(_awaiting_approval):
            stop = await self._journal.read(stop_request_of, execution.id)
            if stop is None and (execution.approve_before is None or now < execution.approve_before):
                continue
            events = await end_approval(
                execution, stop, policy_set=policy_set, journal=self._journal, connections=self._connections(), now=now
            )
            with contextlib.suppress(LeaseLost):  # approved at the same moment
                await self._runner.append(None, execution, *events)

    async def _revisit(self, waiting: WaitingIncidents) -> None:
        """Decides again on denied incidents whose trouble is visible, and on alerts that never resolved."""
        due = await waiting.due()
        for incidents, trouble_visible in ((due.visible, True), (due.unresolved, False)):
            if incidents:
                await respond(
                    incidents,
                    policy_set=self._policy_set(),
                    journal=Bulk(self._journal),
                    connections=self._connections(),
                    claimer=self.claimer,
                    trouble_visible=trouble_visible,
                    begin=self._begin_counted,
                )

    def _begin_counted(self, decided: list[Decided]) -> None:
        self._on_decided(decided)
        self.begin(decided)

    async def _promote(self) -> None:
        gateway = Gateway(self._connections())
        for deployment in await promote(self._journal, self._policy_set(), gateway, self._journal.now()):
            say(log, "version promoted", service=deployment.service, version=deployment.version)

    async def _observe(self) -> None:
        found = await observe(self._policy_set().services, self._journal, Gateway(self._connections()))
        for deployment in found.new:
            say(log, "deployment observed", service=deployment.service, version=deployment.version)
        for (service, environment), reason in found.failed.items():
            if self._unobserved.get((service, environment)) != reason:
                say(log, "deployments not observed", level=logging.WARNING, service=service, reason=reason)
        self._unobserved = found.failed

    async def _silence_collateral(self, silences: CollateralSilences) -> None:
        await silences.maintain(tuple(self._runner), self._policy_set(), self._connections())

    async def _remove_leftovers(self, lease: Lease) -> None:
        for name in await remove_leftovers(self._journal, self._policy_set(), self._connections()):
            say(log, "leftover container removed", container=name)
        gateway = Gateway(self._connections(), guard=lease.guard)
        for pin in await remove_outdated_pins(self._journal, self._policy_set(), gateway):
            say(log, "pin removed", pin=pin)

    async def _archive(self, lease: Lease) -> float | None:
        retention = self._retention()
        return await retention.turn(lease.guard) if retention and not self._closing else None

    async def _watch(self) -> None:
        try:
            watchdog = self._policy_set().watchdog
            live = await query_watchdog(watchdog, self._connections()) if watchdog else None
            self.disarmed = "" if live is None or live.state == "firing" else live.reason
        except Exception:
            self.disarmed = "cannot tell whether the watchdog alert is silenced: a bug, see the log"
            raise


async def _awaiting_approval(tx: Transaction) -> list[Execution]:
    rows = await tx.all("open_executions")
    return [await executions.load(tx, row["id"]) for row in rows if row["state"] == "awaiting_approval"]


async def _end_lease(tx: Transaction, worker: str) -> None:
    await tx.all("end_lease", worker=worker)
    tx.notify()


async def _end_all_leases(tx: Transaction) -> None:
    await tx.all("end_all_leases")

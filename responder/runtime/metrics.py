"""What happened, as series. Labels are bounded: never an execution id, an error text or a digest."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime, timedelta
from itertools import pairwise

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from pydantic import BaseModel, ConfigDict

from foundation.connections import CAUSES
from responder.backends.registries import RESOURCES
from responder.decisions.journal_facts import watchdog_missing
from responder.decisions.policies import BY_HAND
from responder.decisions.policy_set import PolicySet
from responder.journal import Row, Transaction, deployments, outbox
from responder.journal.decisions import kill_switch
from responder.journal.deployments import Deployment
from responder.journal.outbox import Undelivered
from responder.operations.decided import Decided
from responder.rollback.events import Closed, Event, StepCompleted, StepStarted
from responder.rollback.execution import Execution
from responder.rollback.plan import Change, Gate
from responder.transport.background import LOOPS, Loop

_STAGES = ("firing", "received", "decided", "started", "acted", "verified")
_REFUSED_FOR = timedelta(minutes=15)
"""How long a refusal that needs a human shows after it was last given: longer than any pause between two alerts, so
that one trouble pages once.
"""
_MOST_DECISIONS = 10_000
_STATES = ("accepted", "awaiting_approval", "running", "reverting", "stuck")


class Snapshot(BaseModel):
    """What the journal holds at the moment of a scrape."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    stopped: str  # why it does not act on its own; empty where it does
    open_executions: list[Row]
    ends: list[Row]
    running: list[Deployment]
    targets: list[Row]
    statuses: list[Row]
    troubled: list[Row]
    refused: list[Row] = []  # the newest refusal of each service that needs a human
    undelivered: list[Undelivered] = []


async def take_snapshot(tx: Transaction, policy_set: PolicySet, now: datetime) -> Snapshot:
    switch = await kill_switch(tx)
    by_hand = policy_set.stop_file_says() or (f"stopped by {switch.set_by}: {switch.reason}" if switch else "")
    trouble_since = now - timedelta(seconds=policy_set.limits.circuit_breaker.within)
    return Snapshot(
        stopped=by_hand or await watchdog_missing(tx, policy_set, now),
        open_executions=await tx.all("open_executions"),
        ends=await tx.all("last_ends"),
        running=await deployments.running(tx),
        targets=await tx.all("targets"),
        statuses=await tx.all("count_by_status"),
        troubled=await tx.all("count_in_trouble", since=trouble_since),
        refused=_needing_a_human(await tx.all("decided_since", since=now - _REFUSED_FOR, most=_MOST_DECISIONS)),
        undelivered=await outbox.undelivered(tx, now),
    )


def _needing_a_human(decided: Iterable[Row]) -> list[Row]:
    """Of each service the newest refusal that needs a human, unless a rollback was accepted since. Newest first."""
    found: dict[tuple[str, str], Row | None] = {}
    for row in decided:
        if row["result"] != "deny" or row["needs_human"]:
            found.setdefault((row["service"], row["environment"]), row if row["result"] == "deny" else None)
    return [row for row in found.values() if row]


class Metrics:
    """The responder's own series, in a registry of their own. Documented in docs/reference/metrics.md."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.webhooks = Counter(
            "responder_webhooks", "Webhook requests by what became of them.", ["outcome"], registry=self.registry
        )
        self.refused_requests = Counter(
            "responder_http_requests_refused",
            "Requests refused because of their token or password, Host, Origin (or Sec-Fetch-Site) or Content-Type.",
            ["cause"],
            registry=self.registry,
        )
        for cause in ("unauthenticated", "host", "origin", "content_type"):
            self.refused_requests.labels(cause)  # from 0, so that the first one is an increase
        self.ended_connections = Counter(
            "responder_http_connections_ended",
            "Connections ended early: too_many, headers that did not arrive, a tls handshake, malformed, hang_up.",
            ["cause"],
            registry=self.registry,
        )
        for cause in CAUSES:
            self.ended_connections.labels(cause)
        self.alerts = Counter(
            "responder_alerts", "Alerts received, by their status.", ["status"], registry=self.registry
        )
        self.answers = Histogram(
            "responder_webhook_duration_seconds",
            "From a webhook's arrival to the answer, with all that is on record by then.",
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=self.registry,
        )
        self.decisions = Counter(
            "responder_decisions",
            "Verdicts, by policy and the guard that decided.",
            ["policy", "result", "guard"],
            registry=self.registry,
        )
        self.executions = Counter(
            "responder_executions",
            "Rollbacks that came to an end.",
            ["service", "strategy", "outcome"],
            registry=self.registry,
        )
        self.duration = Histogram(
            "responder_execution_duration_seconds",
            "From accepted to closed.",
            ["service", "strategy", "outcome"],
            buckets=(1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1200, 3600),
            registry=self.registry,
        )
        self.stages = Histogram(
            "responder_stage_seconds",
            "From the end of the stage before to the end of this one; the first stage begins at the onset.",
            ["stage"],
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600),
            registry=self.registry,
        )
        self.steps = Histogram(
            "responder_step_duration_seconds",
            "How long a step took, by the kind of resource; gates count as `gate`.",
            ["resource"],
            buckets=(0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 600),
            registry=self.registry,
        )
        self.notifications = Counter(
            "responder_notifications",
            "Messages by channel and what became of the try.",
            ["channel", "outcome"],
            registry=self.registry,
        )
        self.evidence = Counter(
            "responder_evidence",
            "Cases of evidence: complete, partial (something is missing or cut off), failed.",
            ["outcome"],
            registry=self.registry,
        )
        self.evidence_seconds = Histogram(
            "responder_evidence_duration_seconds",
            "How long keeping evidence took.",
            buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
            registry=self.registry,
        )
        self.evidence_bytes = Counter(
            "responder_evidence_bytes", "Bytes of evidence that were stored, packed.", registry=self.registry
        )
        self.loop_failures = Counter(
            "responder_loop_failures",
            "Bugs that something which goes on for ever met, and went on after.",
            ["loop"],
            registry=self.registry,
        )
        for loop in LOOPS:
            self.loop_failures.labels(loop)  # from 0, so that the first one is an increase
        self.reload_ok = Gauge(
            "responder_config_last_reload_successful",
            "1 where the configuration in use is the newest one.",
            registry=self.registry,
        )
        self.reload_at = Gauge(
            "responder_config_last_reload_success_timestamp_seconds",
            "When the configuration in use was read.",
            registry=self.registry,
        )
        self._began: dict[str, tuple[datetime, str]] = {}

    def decided(self, decided: Iterable[Decided]) -> None:
        for decision in decided:
            deciding = decision.decision.deciding
            # What a person is refused is told to that person: it must not look like an alert that nobody acts on.
            policy = BY_HAND.name if decision.incident.by_name else decision.incident.policy.name
            self.decisions.labels(policy, decision.result, deciding.guard).inc()
            if execution := decision.execution:
                accepted = execution.accepted
                times = [
                    accepted.onset_at,
                    min((a.starts_at for a in accepted.alerts), default=None),
                    accepted.received_at,
                    accepted.at,
                ]
                for stage, (start, end) in zip(_STAGES, pairwise(times), strict=False):
                    if start and end:
                        self.stages.labels(stage).observe(max((end - start).total_seconds(), 0))

    def ended(self, cause: str) -> None:
        """Of one connection."""
        self.ended_connections.labels(cause).inc()

    def refused(self, cause: str) -> None:
        """Of one request that was refused before its handler saw it."""
        self.refused_requests.labels(cause).inc()

    def kept(self, outcome: str, seconds: float, size: int) -> None:
        """Of one case of evidence."""
        self.evidence.labels(outcome).inc()
        self.evidence_seconds.observe(seconds)
        self.evidence_bytes.inc(size)

    def happened(self, execution: Execution, events: tuple[Event, ...]) -> None:
        """Counts what was committed. Stages are counted once, where the first step and the last one are seen here."""
        accepted = execution.accepted
        for event in events:
            match event:
                case StepStarted():
                    # Of what another process began we do not know the time; its own series have the beginning.
                    resource = _kind(execution, event)
                    if event.step == 0:
                        self.stages.labels("started").observe(max((event.at - accepted.at).total_seconds(), 0))
                    self._began[execution.id] = (event.at, resource)
                case StepCompleted() if execution.id in self._began:
                    at, resource = self._began[execution.id]
                    took = max((event.at - at).total_seconds(), 0)
                    self.steps.labels(resource).observe(took)
                    if event.step == 0:
                        self.stages.labels("acted").observe(took)
                case Closed():
                    self._closed(execution, event)

    def on_error(self, loop: Loop) -> None:
        """Over a bug."""
        self.loop_failures.labels(loop).inc()

    def notified(self, channel: str, outcome: str) -> None:
        self.notifications.labels(channel, outcome).inc()

    def _closed(self, execution: Execution, event: Closed) -> None:
        accepted = execution.accepted
        self.executions.labels(accepted.service, accepted.strategy, event.outcome).inc()
        took = max((event.at - accepted.at).total_seconds(), 0)
        self.duration.labels(accepted.service, accepted.strategy, event.outcome).observe(took)
        began = self._began.pop(execution.id, None)
        if event.outcome in ("succeeded", "mitigated") and began:
            self.stages.labels("verified").observe(max((event.at - began[0]).total_seconds(), 0))


def _kind(execution: Execution, event: StepStarted) -> str:
    step = next((s for s in execution.plan.steps if str(s) == event.title), None) if execution.plan else None
    if isinstance(step, Change):
        return str(RESOURCES.name_of(step.resource))
    return "gate" if isinstance(step, Gate) else "back"


class State:
    """A collector of what the journal says, made anew for each scrape: what has gone from it must go from here."""

    def __init__(
        self,
        snapshot: Snapshot | None,
        policy_set: PolicySet,
        *,
        disarmed: str = "",
        read_in: float = 0.0,
        channels: Collection[str] = (),
        skew: float = 0.0,
    ) -> None:
        self._snapshot, self._mandate, self._disarmed = snapshot, policy_set, disarmed
        self._read_in, self._channels, self._skew = read_in, channels, skew

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        up = "1 where the journal could be read for this scrape."
        yield GaugeMetricFamily("responder_journal_up", up, value=float(self._snapshot is not None))
        how_long = "How long the journal took to be read, or to fail, for this scrape."
        yield GaugeMetricFamily("responder_journal_read_seconds", how_long, value=self._read_in)
        if self._snapshot is None:
            return  # absent, not zero: nobody may read "nothing is stuck" from a journal that cannot be read
        skew = "Clock of this replica minus clock of the journal's database."
        yield GaugeMetricFamily("responder_clock_skew_seconds", skew, value=self._skew)
        armed = not self._disarmed and not self._snapshot.stopped
        yield GaugeMetricFamily("responder_armed", "1 where it may act on its own.", value=float(armed))
        active = GaugeMetricFamily("responder_executions_active", "Rollbacks that are not closed.", labels=["state"])
        for state in _STATES:
            active.add_metric([state], sum(row["state"] == state for row in self._snapshot.open_executions))
        yield active
        stuck = sum(row["state"] == "stuck" for row in self._snapshot.open_executions)
        yield GaugeMetricFamily(
            "responder_stuck_executions", "Rollbacks locked until a human closes them.", value=stuck
        )
        yield self._locked()
        yield self._refused()
        yield from self._brake()
        yield self._pending()
        yield self._cooldowns()
        yield from self._deployments()
        yield from self._versions()

    def _locked(self) -> Metric:
        family = GaugeMetricFamily(
            "responder_service_locked",
            "1 where a rollback of the service is not closed.",
            labels=["service", "environment", "state"],
        )
        for row in self._snapshot.open_executions if self._snapshot else ():
            family.add_metric([row["service"], row["environment"], row["state"]], 1.0)
        return family

    def _refused(self) -> Metric:
        family = GaugeMetricFamily(
            "responder_rollback_refused",
            "1 where a guard refused a rollback, the trouble goes on, and a human has to take over.",
            labels=["service", "environment", "policy", "guard"],
        )
        for row in self._snapshot.refused if self._snapshot else ():
            family.add_metric([row["service"], row["environment"], row["policy"], row["guard"]], 1.0)
        return family

    def _pending(self) -> Metric:
        pending = {backlog.channel: backlog.pending for backlog in self._snapshot.undelivered} if self._snapshot else {}
        description = "Messages that have not got through yet."
        family = GaugeMetricFamily("responder_notifications_pending", description, labels=["channel"])
        for channel in sorted({*self._channels, *pending}):
            family.add_metric([channel], pending.get(channel, 0))
        return family

    def _brake(self) -> Iterator[Metric]:
        limit = "So many services of one environment in trouble hold all of them."
        yield GaugeMetricFamily(
            "responder_brake_services", limit, value=float(self._mandate.limits.circuit_breaker.services)
        )
        troubled = GaugeMetricFamily(
            "responder_services_in_trouble",
            "Services for which an alert wanted a rollback for the first time within the brake's time.",
            labels=["environment"],
        )
        found = {row["environment"]: row["n"] for row in self._snapshot.troubled} if self._snapshot else {}
        for environment in sorted({service.environment for service in self._mandate.services}):
            troubled.add_metric([environment], float(found.get(environment, 0)))
        yield troubled

    def _cooldowns(self) -> Metric:
        family = GaugeMetricFamily(
            "responder_cooldown_until_timestamp_seconds", "When the policy may act again.", labels=["policy", "service"]
        )
        until: dict[tuple[str, str], float] = {}
        for row in self._snapshot.ends if self._snapshot else ():
            end = row["ended_at"] + timedelta(seconds=self._mandate.policy(row["policy"]).cooldown)
            key = (row["policy"], row["service"])
            until[key] = max(until.get(key, 0.0), end.timestamp())
        for key, timestamp in until.items():
            family.add_metric(key, timestamp)
        return family

    def _deployments(self) -> Iterator[Metric]:
        when = GaugeMetricFamily(
            "responder_deployment_timestamp_seconds",
            "When the running version was deployed; absent where we put it there ourselves.",
            labels=["service", "environment"],
        )
        info = GaugeMetricFamily(
            "responder_deployment_info",
            "The version that runs, and what is known of it.",
            labels=["service", "environment", "version", "deployment_id", "status"],
        )
        for deployment in self._snapshot.running if self._snapshot else ():
            if not deployment.rolled_back_by:
                when.add_metric([deployment.service, deployment.environment], deployment.at.timestamp())
            info.add_metric(
                [
                    deployment.service,
                    deployment.environment,
                    deployment.version,
                    deployment.id,
                    deployment.status or "",
                ],
                1.0,
            )
        yield when
        yield info

    def _versions(self) -> Iterator[Metric]:
        target = GaugeMetricFamily(
            "responder_target_info",
            "The version that a rollback would go back to.",
            labels=["service", "environment", "version"],
        )
        counts = GaugeMetricFamily(
            "responder_versions", "Known versions by their status.", labels=["service", "environment", "status"]
        )
        for row in self._snapshot.targets if self._snapshot else ():
            target.add_metric([row["service"], row["environment"], row["version"]], 1.0)
        for row in self._snapshot.statuses if self._snapshot else ():
            counts.add_metric([row["service"], row["environment"], row["status"]], float(row["n"]))
        yield target
        yield counts

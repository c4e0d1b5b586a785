"""The counters and histograms of this process.

Labels are bounded: no execution ID, error text or digest. Exemplars name the execution.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from itertools import pairwise

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from foundation.connections import CAUSES
from responder.backends.registries import RESOURCES
from responder.decisions.policies import BY_HAND
from responder.operations.decided import Decided
from responder.rollback.events import Closed, Event, StepCompleted, StepStarted
from responder.rollback.execution import Execution
from responder.rollback.plan import Change, Gate
from responder.transport.background import LOOPS, Loop

_STAGES = ("firing", "received", "decided", "started", "acted", "verified")


class Metrics:
    """The series of this process, in their own registry. docs/reference/metrics.md documents them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.webhooks = Counter(
            "responder_webhooks", "Webhook requests by outcome.", ["outcome"], registry=self.registry
        )
        self.refused_requests = Counter(
            "responder_http_requests_refused",
            "Requests refused because of their token or password, Host, Origin (or Sec-Fetch-Site) or Content-Type.",
            ["cause"],
            registry=self.registry,
        )
        for cause in ("unauthenticated", "host", "origin", "content_type"):
            self.refused_requests.labels(cause)  # start at 0, so that the first one is an increase
        self.ended_connections = Counter(
            "responder_http_connections_ended",
            "Connections ended early: too_many, late headers, a failed tls handshake, malformed, hang_up.",
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
            "From the arrival of a webhook to the response, with everything recorded.",
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=self.registry,
        )
        self.decisions = Counter(
            "responder_decisions",
            "Decisions by policy, result and the guard that decided.",
            ["policy", "result", "guard"],
            registry=self.registry,
        )
        self.executions = Counter(
            "responder_executions",
            "Closed rollbacks.",
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
            "From the end of the previous stage to the end of this one; the first one starts at the onset.",
            ["stage"],
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600),
            registry=self.registry,
        )
        self.steps = Histogram(
            "responder_step_duration_seconds",
            "Duration of a step by resource; gates are `gate`, and revert steps are `revert`.",
            ["resource"],
            buckets=(0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 600),
            registry=self.registry,
        )
        self.notifications = Counter(
            "responder_notifications",
            "Delivery attempts by channel and outcome.",
            ["channel", "outcome"],
            registry=self.registry,
        )
        self.evidence = Counter(
            "responder_evidence",
            "Collected evidence: complete, partial (something is missing or cut off), failed.",
            ["outcome"],
            registry=self.registry,
        )
        self.evidence_seconds = Histogram(
            "responder_evidence_duration_seconds",
            "Duration of collecting evidence.",
            buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
            registry=self.registry,
        )
        self.evidence_bytes = Counter(
            "responder_evidence_bytes", "Compressed bytes of evidence that were stored.", registry=self.registry
        )
        self.archived_records = Counter(
            "responder_journal_archived",
            "Records that moved from the journal to the archive.",
            ["kind"],
            registry=self.registry,
        )
        for kind in ("rollbacks", "decisions"):
            self.archived_records.labels(kind)
        self.archive_failures = Counter(
            "responder_journal_archive_failures",
            "Failed writes to the archive. Nothing was deleted.",
            registry=self.registry,
        )
        self.loop_failures = Counter(
            "responder_loop_failures",
            "Unexpected errors in background loops, which were retried.",
            ["loop"],
            registry=self.registry,
        )
        for loop in LOOPS:
            self.loop_failures.labels(loop)  # start at 0, so that the first one is an increase
        self.reload_ok = Gauge(
            "responder_config_last_reload_successful",
            "1 if the latest configuration is in use.",
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
            # A denied manual rollback must not look like an unhandled alert: the requester has the answer.
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
        """Counts a connection that was ended."""
        self.ended_connections.labels(cause).inc()

    def refused(self, cause: str) -> None:
        """Counts a request that was refused before its handler ran."""
        self.refused_requests.labels(cause).inc()

    def kept(self, outcome: str, seconds: float, size: int) -> None:
        """Counts one collection of evidence."""
        self.evidence.labels(outcome).inc()
        self.evidence_seconds.observe(seconds)
        self.evidence_bytes.inc(size)

    def happened(self, execution: Execution, events: tuple[Event, ...]) -> None:
        """Counts committed events. Stages are counted in the process that runs the first and the last step."""
        accepted = execution.accepted
        for event in events:
            match event:
                case StepStarted():
                    # The start time of a step in another process is only in the series of that process.
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

    def archived(self, kind: str, n: int) -> None:
        """Counts records that moved to the archive."""
        self.archived_records.labels(kind).inc(n)

    def on_error(self, loop: Loop) -> None:
        """Counts an unexpected error in a background loop."""
        self.loop_failures.labels(loop).inc()

    def notified(self, channel: str, outcome: str) -> None:
        self.notifications.labels(channel, outcome).inc()

    def _closed(self, execution: Execution, event: Closed) -> None:
        accepted = execution.accepted
        exemplar = {"execution": execution.id}
        self.executions.labels(accepted.service, accepted.strategy, event.outcome).inc(exemplar=exemplar)
        took = max((event.at - accepted.at).total_seconds(), 0)
        self.duration.labels(accepted.service, accepted.strategy, event.outcome).observe(took, exemplar)
        began = self._began.pop(execution.id, None)
        if event.outcome in ("succeeded", "mitigated") and began:
            self.stages.labels("verified").observe(max((event.at - began[0]).total_seconds(), 0))


def _kind(execution: Execution, event: StepStarted) -> str:
    step = next((s for s in execution.plan.steps if str(s) == event.title), None) if execution.plan else None
    if isinstance(step, Change):
        return str(RESOURCES.name_of(step.resource))
    return "gate" if isinstance(step, Gate) else "revert"

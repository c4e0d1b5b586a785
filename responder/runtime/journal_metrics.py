"""The gauges from the journal. They are equal on all replicas that have read it since it changed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime, timedelta

from prometheus_client.core import GaugeMetricFamily, Metric
from pydantic import BaseModel, ConfigDict

from responder.decisions.journal_facts import watchdog_missing
from responder.decisions.policy_set import PolicySet
from responder.journal import Row, Transaction, deployments, outbox
from responder.journal.decisions import kill_switch
from responder.journal.deployments import Deployment
from responder.journal.outbox import Undelivered

_DENIED_FOR = timedelta(minutes=15)
"""How long a denial that needs a human is exported: longer than any `repeat_interval`, so that it pages once."""
_MAX_DECISIONS = 10_000
_STATES = ("accepted", "awaiting_approval", "running", "reverting", "stuck")


class JournalSnapshot(BaseModel):
    """The content of the journal at one time."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    stopped: str  # why it does not act automatically; empty if it does
    open_executions: list[Row]
    ends: list[Row]
    running: list[Deployment]
    targets: list[Row]
    statuses: list[Row]
    troubled: list[Row]
    denied: list[Row] = []  # the latest denial per service that needs a human
    undelivered: list[Undelivered] = []


async def take_snapshot(tx: Transaction, policy_set: PolicySet, now: datetime) -> JournalSnapshot:
    switch = await kill_switch(tx)
    manually_stopped = policy_set.stop_file_says() or (f"stopped by {switch.set_by}: {switch.reason}" if switch else "")
    trouble_since = now - timedelta(seconds=policy_set.limits.circuit_breaker.within)
    return JournalSnapshot(
        stopped=manually_stopped or await watchdog_missing(tx, policy_set, now),
        open_executions=await tx.all("open_executions"),
        ends=await tx.all("last_ends"),
        running=await deployments.running(tx),
        targets=await tx.all("targets"),
        statuses=await tx.all("count_by_status"),
        troubled=await tx.all("count_in_trouble", since=trouble_since),
        denied=_needing_a_human(await tx.all("decided_since", since=now - _DENIED_FOR, most=_MAX_DECISIONS)),
        undelivered=await outbox.undelivered(tx, now),
    )


def _needing_a_human(decided: Iterable[Row]) -> list[Row]:
    """The latest denial per service that needs a human, unless a rollback was accepted since. Newest first."""
    found: dict[tuple[str, str], Row | None] = {}
    for row in decided:
        if row["result"] != "deny" or row["needs_human"]:
            found.setdefault((row["service"], row["environment"]), row if row["result"] == "deny" else None)
    return [row for row in found.values() if row]


class JournalMetrics:
    """The gauges from the journal, created again for each scrape, so that series disappear with their rows."""

    def __init__(
        self,
        snapshot: JournalSnapshot | None,
        policy_set: PolicySet,
        *,
        disarmed: str = "",
        read_in: float = 0.0,
        age: float = 0.0,
        channels: Collection[str] = (),
        skew: float = 0.0,
    ) -> None:
        self._snapshot, self._policy_set, self._disarmed = snapshot, policy_set, disarmed
        self._read_in, self._age, self._channels, self._skew = read_in, age, channels, skew

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        """All gauges."""
        yield from self.of_replica()
        yield from self.of_services()

    def of_replica(self) -> Iterator[Metric]:
        """Those that differ between replicas or are few: created at each scrape."""
        up = "1 if the last read of the journal succeeded, and is not outdated."
        yield GaugeMetricFamily("responder_journal_up", up, value=float(self._snapshot is not None))
        how_long = "Time of the last read of the journal, or until it failed."
        yield GaugeMetricFamily("responder_journal_read_seconds", how_long, value=self._read_in)
        if self._snapshot is None:
            return  # absent, not 0: an unreadable journal does not mean that nothing is stuck
        age = "Time since the journal was read: the age of all series from it."
        yield GaugeMetricFamily("responder_journal_age_seconds", age, value=self._age)
        skew = "Clock of this replica minus clock of the journal's database."
        yield GaugeMetricFamily("responder_clock_skew_seconds", skew, value=self._skew)
        armed = not self._disarmed and not self._snapshot.stopped
        yield GaugeMetricFamily("responder_armed", "1 if it may act automatically.", value=float(armed))
        active = GaugeMetricFamily("responder_executions_active", "Rollbacks that are not closed.", labels=["state"])
        for state in _STATES:
            active.add_metric([state], sum(row["state"] == state for row in self._snapshot.open_executions))
        yield active
        stuck = sum(row["state"] == "stuck" for row in self._snapshot.open_executions)
        yield GaugeMetricFamily(
            "responder_stuck_executions", "Rollbacks that lock their service until a person closes them.", value=stuck
        )
        yield self._pending()

    def of_services(self) -> Iterator[Metric]:
        """Those that grow with the services."""
        if self._snapshot is None:
            return
        yield self._locked()
        yield self._refused()
        yield from self._circuit_breaker()
        yield self._cooldowns()
        yield from self._deployments()
        yield from self._versions()

    def _locked(self) -> Metric:
        family = GaugeMetricFamily(
            "responder_service_locked",
            "1 if a rollback of the service is not closed.",
            labels=["service", "environment", "state"],
        )
        for row in self._snapshot.open_executions if self._snapshot else ():
            family.add_metric([row["service"], row["environment"], row["state"]], 1.0)
        return family

    def _refused(self) -> Metric:
        family = GaugeMetricFamily(
            "responder_rollback_refused",
            "1 if a guard denied a rollback, the trouble continues, and a person must take over.",
            labels=["service", "environment", "policy", "guard"],
        )
        for row in self._snapshot.denied if self._snapshot else ():
            family.add_metric([row["service"], row["environment"], row["policy"], row["guard"]], 1.0)
        return family

    def _pending(self) -> Metric:
        pending = {backlog.channel: backlog.pending for backlog in self._snapshot.undelivered} if self._snapshot else {}
        description = "Messages not delivered yet."
        family = GaugeMetricFamily("responder_notifications_pending", description, labels=["channel"])
        for channel in sorted({*self._channels, *pending}):
            family.add_metric([channel], pending.get(channel, 0))
        return family

    def _circuit_breaker(self) -> Iterator[Metric]:
        limit = "This many services of an environment in trouble trip the circuit breaker."
        yield GaugeMetricFamily(
            "responder_circuit_breaker_services", limit, value=float(self._policy_set.limits.circuit_breaker.services)
        )
        troubled = GaugeMetricFamily(
            "responder_services_in_trouble",
            "Services whose first alert that requests a rollback arrived within limits.circuit_breaker.within.",
            labels=["environment"],
        )
        found = {row["environment"]: row["n"] for row in self._snapshot.troubled} if self._snapshot else {}
        for environment in sorted({service.environment for service in self._policy_set.services}):
            troubled.add_metric([environment], float(found.get(environment, 0)))
        yield troubled

    def _cooldowns(self) -> Metric:
        family = GaugeMetricFamily(
            "responder_cooldown_until_timestamp_seconds", "When the policy may act again.", labels=["policy", "service"]
        )
        until: dict[tuple[str, str], float] = {}
        for row in self._snapshot.ends if self._snapshot else ():
            end = row["ended_at"] + timedelta(seconds=self._policy_set.policy(row["policy"]).cooldown)
            key = (row["policy"], row["service"])
            until[key] = max(until.get(key, 0.0), end.timestamp())
        for key, timestamp in until.items():
            family.add_metric(key, timestamp)
        return family

    def _deployments(self) -> Iterator[Metric]:
        when = GaugeMetricFamily(
            "responder_deployment_timestamp_seconds",
            "When the running version was deployed; absent after a rollback.",
            labels=["service", "environment"],
        )
        info = GaugeMetricFamily(
            "responder_deployment_info",
            "The running version and its status.",
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
            "The rollback target.",
            labels=["service", "environment", "version"],
        )
        counts = GaugeMetricFamily(
            "responder_versions", "Number of versions by status.", labels=["service", "environment", "status"]
        )
        for row in self._snapshot.targets if self._snapshot else ():
            target.add_metric([row["service"], row["environment"], row["version"]], 1.0)
        for row in self._snapshot.statuses if self._snapshot else ():
            counts.add_metric([row["service"], row["environment"], row["status"]], float(row["n"]))
        yield target
        yield counts

"""A history with everything that a dashboard can show: decided, journaled and counted by the real code."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from responder.backends.connections import Connections
from responder.decisions.incidents import Incident
from responder.decisions.limits import CircuitBreaker, Limits
from responder.decisions.policy_set import PolicySet
from responder.journal import Database, decisions, evidence, executions
from responder.operations.decided import Decided
from responder.operations.respond import respond
from responder.operations.undecided import record_unmatched
from responder.rollback.events import (
    ApprovalRequested,
    Approved,
    Closed,
    Event,
    EvidenceCollected,
    Planned,
    RetriesExhausted,
    StepCompleted,
    StepFailed,
    StepStarted,
    StopRequested,
)
from responder.rollback.execution import Execution
from responder.rollback.plan import Plan, ServicePlan
from responder.runtime.journal_metrics import JournalMetrics, take_snapshot
from responder.runtime.metrics import Metrics
from responder.services import registry, rollbacks
from tests.responder.examples import alert, change, deployment, gate, policy, service, version_change
from tests.responder.outside import FakeAlertmanager, FakePrometheus

NAMES = ("shop", "search", "mail", "pay", "cart", "front", "veteran", "watched")
POLICIES = {
    name: policy(name=name, match=[f'alertname="{alertname}"'], roll_back={"label": "service"}, mode=mode, **more)
    for name, alertname, mode, more in (
        ("failing", "ServiceFailing", "auto", {"cooldown": 86400.0}),
        ("slow", "LatencyHigh", "approve", {}),
        ("regressed", "ErrorRateRegressed", "observe", {}),
    )
}


class KnowsOnset(FakePrometheus):
    """Answers only queries for the start of the alerts and for visible trouble."""

    onset: datetime

    def answer(self, request: web.Request) -> web.StreamResponse:
        asks_onset = "ALERTS_FOR_STATE" in request.query.get("query", "")
        vector = [{"metric": {}, "value": [0, str(self.onset.timestamp())]}] if asks_onset else []
        if "service_environment:trouble:now" in request.query.get("query", ""):
            vector += [{"metric": labels, "value": [0, value]} for labels, value in self._visible()]
        return web.json_response({"status": "success", "data": {"resultType": "vector", "result": vector}})


class History:
    """Two rounds of the same notification on different services, so that every counter increases."""

    def __init__(
        self, journal: Database, connections: Connections, alertmanager: FakeAlertmanager, prometheus: KnowsOnset
    ) -> None:
        self.metrics = Metrics()
        self.running_one = ""  # an execution with everything except an end
        self._journal, self._connections = journal, connections
        self._alertmanager, self._prometheus = alertmanager, prometheus
        self.policy_set = PolicySet(
            services=tuple(service(name) for name in self._names()),
            policies=tuple(POLICIES.values()),
            limits=Limits(rollbacks_per_hour=1000, circuit_breaker=CircuitBreaker(services=100)),
        )

    @staticmethod
    def _names() -> list[str]:
        return [*(f"{name}-{round_}" for name in NAMES for round_ in (1, 2)), "web"]

    async def series(self, request: web.Request) -> web.Response:
        """The series that the responder would publish now."""
        now = datetime.now(UTC)
        registry = CollectorRegistry()
        snapshot = await self._journal.read(take_snapshot, self.policy_set, now)
        registry.register(JournalMetrics(snapshot, self.policy_set, read_in=0.002))  # type: ignore[arg-type]
        return web.Response(body=generate_latest(self.metrics.registry) + generate_latest(registry))

    async def play(self, round_: int) -> None:
        self.metrics.reload_ok.set(1)
        self.metrics.reload_at.set(datetime.now(UTC).timestamp())
        for outcome in ("accepted", "invalid", "unavailable"):
            self.metrics.webhooks.labels(outcome).inc()
            self.metrics.answers.observe(0.02)
        for status in ("firing", "resolved"):
            self.metrics.alerts.labels(status).inc()
        at = datetime.now(UTC) - timedelta(hours=6 - 2 * round_)
        for name in NAMES:
            await self._deploy(f"{name}-{round_}", at, days_ago=2 if name == "veteran" else 0)
        await self._succeeds(f"shop-{round_}", at)
        await self._turns_back(f"search-{round_}", at + timedelta(minutes=10))
        await self._is_stuck(f"mail-{round_}", at + timedelta(minutes=20))
        await self._is_cancelled(f"pay-{round_}", at + timedelta(minutes=30))
        await self._waits(f"cart-{round_}", at + timedelta(minutes=40))
        await self._request(f"front-{round_}", at + timedelta(minutes=43))
        await self._refused(round_, at + timedelta(minutes=46))

    async def play_now(self) -> None:
        """A running rollback, because checks of `web` really fail."""
        at = datetime.now(UTC) - timedelta(seconds=90)
        await self._deploy("web", at)
        decided = await self._request("web", at, policy_name="slow")
        plan = _plan("web")
        first, last = plan.steps
        await self._happens(
            decided,
            Planned(at=at + timedelta(seconds=4), plan=plan),
            EvidenceCollected(
                at=at + timedelta(seconds=4), note="3 files, 2 KiB", location="web-1.1", files=3, bytes=2048
            ),
            ApprovalRequested(
                at=at + timedelta(seconds=4), reason="policy slow asks", until=at + timedelta(minutes=15)
            ),
            Approved(at=at + timedelta(seconds=30), by="alice", plan_hash=plan.hash),
            Planned(at=at + timedelta(seconds=31), plan=plan),
            StepStarted(at=at + timedelta(seconds=31), step=0, title=str(first)),
            StepCompleted(at=at + timedelta(seconds=33), step=0, changed=True, note="was 1.1"),
            StepStarted(at=at + timedelta(seconds=33), step=1, title=str(last)),
        )
        assert decided.execution
        self.running_one = decided.execution.id
        where = {"policy": "slow", "service": "web", "environment": "production", "deployment_id": "web-1.1"}
        fields = {"state": "kept", "location": f"web-1.1/{self.running_one}", "files": 3, "size": 2048, "at": at}
        await self._journal.transaction(
            evidence.record, self.running_one, execution=self.running_one, **where, **fields
        )

    async def _deploy(self, name: str, at: datetime, days_ago: int = 0) -> None:
        before, since = at - timedelta(days=5), at - timedelta(minutes=10) - timedelta(days=days_ago)
        fields = {"service": name, "recorded_by": "ci", "status": None, "artifact": f"registry/{name}"}
        for version, when, status in (("1.0", before, "good"), ("1.1", since, None)):
            deployed = deployment(id=f"{name}-{version}", version=version, at=when, **fields)
            await self._journal.transaction(registry.record, deployed, status)

    async def _request(
        self, name: str, at: datetime, policy_name: str = "failing", policy_set: PolicySet | None = None
    ) -> Decided:
        chosen = POLICIES[policy_name]
        labels = {"alertname": chosen.match[0].value, "service": name, "environment": "production"}
        self._prometheus.onset = at - timedelta(seconds=20)
        self._prometheus.recorded = [labels]
        annotations = {"summary": f"{name} fails its checks"}
        firing = alert(
            labels, starts_at=at, annotations=annotations, generator_url="http://prometheus:9090/graph?g0.expr=up"
        )
        self._alertmanager.alerts.clear()
        self._alertmanager.fires(labels, firing.fingerprint)
        incident = Incident(
            policy=chosen,
            service=name,
            environment="production",
            alerts=(firing,),
            received_at=at + timedelta(seconds=2),
        )
        (decided,) = await respond(
            [incident],
            policy_set=policy_set or self.policy_set,
            journal=self._journal,
            connections=self._connections,
            clock=lambda: at + timedelta(seconds=3),
        )
        self.metrics.decided([decided])
        return decided

    async def _happens(self, decided: Decided, *events: Event) -> Execution:
        assert decided.execution, decided.payload()
        execution = await self._journal.read(executions.load, decided.execution.id)
        for event in events:
            execution = await self._journal.transaction(rollbacks.append, execution, [event], None)
            self.metrics.happened(execution, (event,))
        return execution

    async def _begun(self, name: str, at: datetime) -> tuple[Decided, Plan]:
        decided, plan = await self._request(name, at), _plan(name)
        await self._happens(
            decided,
            Planned(at=at + timedelta(seconds=4), plan=plan),
            StepStarted(at=at + timedelta(seconds=5), step=0, title=str(plan.steps[0])),
        )
        return decided, plan

    async def _succeeds(self, name: str, at: datetime) -> None:
        decided, plan = await self._begun(name, at)
        await self._happens(
            decided,
            StepCompleted(at=at + timedelta(seconds=8), step=0, changed=True, note="written"),
            StepStarted(at=at + timedelta(seconds=8), step=1, title=str(plan.steps[1])),
            StepCompleted(at=at + timedelta(seconds=130), step=1, changed=False, note="healthy for 2m"),
            Closed(at=at + timedelta(seconds=130), outcome="succeeded", by="responder", reason=""),
        )

    async def _turns_back(self, name: str, at: datetime) -> None:
        decided, plan = await self._begun(name, at)
        first = plan.steps[0]
        back = str(first.turned()) if first.kind == "move" else ""
        await self._happens(
            decided,
            StepCompleted(at=at + timedelta(seconds=8), step=0, changed=True),
            StepStarted(at=at + timedelta(seconds=8), step=1, title=str(plan.steps[1])),
            StepFailed(at=at + timedelta(seconds=60), step=1, reason="not healthy within 50s"),
            StepStarted(at=at + timedelta(seconds=61), step=2, title=back),
            StepCompleted(at=at + timedelta(seconds=64), step=2, changed=True),
            Closed(at=at + timedelta(seconds=64), outcome="reverted", by="responder", reason=""),
        )

    async def _is_stuck(self, name: str, at: datetime) -> None:
        decided, plan = await self._begun(name, at)
        await self._happens(
            decided,
            StepCompleted(at=at + timedelta(seconds=8), step=0, changed=True),
            StepStarted(at=at + timedelta(seconds=8), step=1, title=str(plan.steps[1])),
            RetriesExhausted(at=at + timedelta(seconds=600), reason="resumed 6 times"),
        )

    async def _is_cancelled(self, name: str, at: datetime) -> None:
        decided, _ = await self._begun(name, at)
        stopped = StopRequested(at=at + timedelta(seconds=9), by="alice", reason="I am on it")
        closed = Closed(at=at + timedelta(seconds=20), outcome="cancelled", by="responder", reason="")
        await self._happens(decided, stopped, closed)

    async def _waits(self, name: str, at: datetime) -> None:
        decided = await self._request(name, at, policy_name="slow")
        until = datetime.now(UTC) + timedelta(minutes=15)
        plan = Planned(at=at + timedelta(seconds=4), plan=_plan(name))
        await self._happens(
            decided, plan, ApprovalRequested(at=at + timedelta(seconds=4), reason="policy slow asks", until=until)
        )

    async def _refused(self, round_: int, at: datetime) -> None:
        """Decisions of several guards, and without a policy."""
        await self._request(f"veteran-{round_}", at)
        await self._request(f"watched-{round_}", at, policy_name="regressed")
        await self._request(f"mail-{round_}", at)
        storm = self.policy_set.model_copy(
            update={"limits": Limits(rollbacks_per_hour=1000, circuit_breaker=CircuitBreaker(services=2))}
        )
        await self._request(f"watched-{round_}", at, policy_set=storm)
        await self._journal.transaction(decisions.set_kill_switch, "alice", "maintenance", at)
        await self._request(f"watched-{round_}", at + timedelta(seconds=1))
        await self._journal.transaction(decisions.release_kill_switch)
        nobody = alert({"alertname": "Strange", "service": f"shop-{round_}"}, starts_at=at)
        await record_unmatched(self._journal, [nobody], at)


def _plan(name: str) -> Plan:
    fields: dict[str, Any] = {"name": f"{name} is healthy", "hold_for": 120.0, "within": 600.0, "otherwise": "freeze"}
    version = version_change(name, from_version="1.1", to_version="1.0")
    return Plan(parts=(ServicePlan(version=version, steps=1),), steps=(change("1.1", "1.0"), gate(**fields)))

"""The series that dashboards use keep their names and a bounded set of labels, whatever senders write."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.core import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_text
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from responder.decisions.guards import decide
from responder.decisions.recording import record_decision
from responder.journal import Database, decisions
from responder.operations.decided import Decided
from responder.rollback.events import Closed, Event, Outcome, Planned, StepCompleted, StepFailed, StepStarted
from responder.rollback.execution import Execution, begin
from responder.runtime.journal_metrics import JournalMetrics, JournalSnapshot, take_snapshot
from responder.runtime.journal_state import Families
from responder.runtime.metrics import Metrics
from tests.responder.examples import NOW, accepted, ago, deployment, incident, make_facts, plan, policy_set

CONTRACT = {
    "responder_webhooks_total": {"outcome"},
    "responder_alerts_total": {"status"},
    "responder_decisions_total": {"policy", "result", "guard"},
    "responder_executions_total": {"service", "strategy", "outcome"},
    "responder_executions_active": {"state"},
    "responder_execution_duration_seconds_count": None,
    "responder_stage_seconds_count": {"stage"},
    "responder_step_duration_seconds_count": {"resource"},
    "responder_cooldown_until_timestamp_seconds": {"policy", "service"},
    "responder_deployment_timestamp_seconds": {"service", "environment"},
    "responder_deployment_info": None,
    "responder_armed": set(),
    "responder_stuck_executions": set(),
    "responder_journal_up": set(),
    "responder_webhook_duration_seconds_count": set(),
    "responder_journal_read_seconds": set(),
    "responder_clock_skew_seconds": set(),
    "responder_rollback_refused": {"service", "environment", "policy", "guard"},
    "responder_service_locked": {"service", "environment", "state"},
    "responder_services_in_trouble": {"environment"},
    "responder_circuit_breaker_services": set(),
    "responder_target_info": {"service", "environment", "version"},
    "responder_versions": {"service", "environment", "status"},
}
"""The documented series and those that the dashboards query. None: labels may be added to the documented ones."""


def samples(*collectors: Any) -> list[Any]:
    text = "".join(generate_latest(c).decode() for c in collectors)
    return [s for family in text_string_to_metric_families(text) for s in family.samples]


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def notification(*events: Event) -> list[tuple[Execution, Event]]:
    execution, history = begin("r1", accepted()), []
    for event in events:
        execution = execution.after(event)
        history.append((execution, event))
    return history


def tell(metrics: Metrics, *events: Event) -> None:
    for execution, event in notification(*events):
        metrics.happened(execution, (event,))


def at(seconds: float) -> Any:
    return NOW + timedelta(seconds=seconds)


def whole(outcome: Outcome = "succeeded") -> list[Event]:
    rollback_plan = plan()
    return [
        Planned(at=at(1), plan=rollback_plan),
        StepStarted(at=at(2), step=0, title=str(rollback_plan.steps[0])),
        StepCompleted(at=at(3), step=0, changed=True),
        StepStarted(at=at(3), step=1, title=str(rollback_plan.steps[1])),
        StepCompleted(at=at(9), step=1, changed=False),
        Closed(at=at(9), outcome=outcome, by="responder", reason=""),
    ]


def state(snapshot: JournalSnapshot | None, *, disarmed: str = "") -> list[Any]:
    registry = CollectorRegistry()
    registry.register(JournalMetrics(snapshot, policy_set(), disarmed=disarmed))  # type: ignore[arg-type]
    return samples(registry)


def snapshot(**other: Any) -> JournalSnapshot:
    fields = {
        "stopped": "",
        "open_executions": [
            {"service": "backend", "environment": "production", "state": "stuck"},
            {"service": "web", "environment": "production", "state": "running"},
        ],
        "ends": [{"policy": "backend-down", "service": "backend", "environment": "production", "ended_at": NOW}],
        "running": [deployment()],
        "targets": [{"service": "backend", "environment": "production", "version": "2.0"}],
        "statuses": [{"service": "backend", "environment": "production", "status": "bad", "n": 3}],
        "troubled": [{"environment": "production", "n": 2}],
        "denied": [{"service": "backend", "environment": "production", "policy": "backend-down", "guard": "cooldown"}],
        **other,
    }
    return JournalSnapshot(**fields)


def test_every_series_of_the_contract_exists_with_its_labels() -> None:
    metrics = Metrics()
    metrics.webhooks.labels("accepted").inc()
    metrics.alerts.labels("firing").inc()
    metrics.decided([decided()])
    tell(metrics, *whole())
    found: dict[str, set[str]] = {}
    for sample in (*samples(metrics.registry), *state(snapshot())):
        found.setdefault(sample.name, set()).update(sample.labels)
    for name, labels in CONTRACT.items():
        assert name in found, name
        if labels is not None:
            assert found[name] == labels, name
    assert {"service", "environment", "version", "deployment_id"} <= found["responder_deployment_info"]


def decided() -> Decided:
    case, facts = incident(), make_facts()
    return Decided(
        incident=case, facts=facts, decision=decide(case, facts, NOW), at=NOW, execution=begin("r1", accepted())
    )


def test_a_result_is_counted_by_the_guard_that_decided() -> None:
    metrics = Metrics()
    case, facts = incident(), make_facts(stopped="storm")
    metrics.decided([Decided(incident=case, facts=facts, decision=decide(case, facts, NOW), at=NOW)] * 2)
    counted = value(metrics, "responder_decisions_total", policy="backend-down", result="deny", guard="kill_switch")
    assert counted == 2


def test_the_stages_of_a_success() -> None:
    metrics = Metrics()
    metrics.decided([decided()])
    tell(metrics, *whole())
    sums = {
        stage: value(metrics, "responder_stage_seconds_sum", stage=stage)
        for stage in ("firing", "received", "decided", "started", "acted", "verified")
    }
    assert sums == {"firing": None, "received": 60.0, "decided": 0.0, "started": 2.0, "acted": 1.0, "verified": 6.0}
    assert value(metrics, "responder_step_duration_seconds_sum", resource="current_release") == 1.0
    assert value(metrics, "responder_step_duration_seconds_sum", resource="gate") == 6.0


def test_an_end_is_counted_with_its_outcome_and_its_time() -> None:
    metrics = Metrics()
    labels = {"service": "backend", "strategy": "immediate", "outcome": "failed"}
    tell(metrics, *whole("failed"))
    assert value(metrics, "responder_executions_total", **labels) == 1
    assert value(metrics, "responder_execution_duration_seconds_sum", **labels) == 9.0
    assert value(metrics, "responder_stage_seconds_count", stage="verified") is None


def test_a_revert_step_is_counted_separately() -> None:
    metrics, rollback_plan = Metrics(), plan()
    tell(
        metrics,
        Planned(at=at(1), plan=rollback_plan),
        StepStarted(at=at(2), step=0, title=str(rollback_plan.steps[0])),
        StepFailed(at=at(3), step=0, reason="no"),
        StepStarted(at=at(4), step=1, title="current release of /srv/backend: 2.0 → 2.1"),
        StepCompleted(at=at(6), step=1, changed=True),
        Closed(at=at(6), outcome="reverted", by="responder", reason=""),
    )
    assert value(metrics, "responder_step_duration_seconds_sum", resource="revert") == 2.0


def test_a_clock_set_back_gives_no_negative_time() -> None:
    metrics, rollback_plan = Metrics(), plan()
    tell(
        metrics,
        Planned(at=at(1), plan=rollback_plan),
        StepStarted(at=at(-5), step=0, title="x"),
        StepCompleted(at=at(-9), step=0, changed=True),
        StepStarted(at=at(-9), step=1, title="y"),
        StepCompleted(at=at(-10), step=1, changed=False),
        Closed(at=at(-20), outcome="succeeded", by="responder", reason=""),
    )
    assert all(s.value >= 0 for s in samples(metrics.registry) if s.name.startswith("responder") and "_sum" in s.name)


def test_no_label_holds_an_id_a_text_or_a_digest() -> None:
    metrics = Metrics()
    metrics.decided([decided()])
    tell(metrics, *whole())
    values = {v for s in (*samples(metrics.registry), *state(snapshot())) for k, v in s.labels.items() if k != "le"}
    assert not values & {"r1", plan().hash, "BackendDown on backend in production", *(str(s) for s in plan().steps)}


def test_series_from_the_journal() -> None:
    found = {(s.name, *sorted(s.labels.values())): s.value for s in state(snapshot())}
    assert found[("responder_stuck_executions",)] == 1
    assert found[("responder_executions_active", "running")] == 1
    assert found[("responder_executions_active", "awaiting_approval")] == 0
    assert found[("responder_cooldown_until_timestamp_seconds", "backend", "backend-down")] == NOW.timestamp() + 1800
    assert found[("responder_deployment_timestamp_seconds", "backend", "production")] == ago(600).timestamp()
    assert found[("responder_armed",)] == 1
    assert found[("responder_service_locked", "backend", "production", "stuck")] == 1
    assert found[("responder_services_in_trouble", "production")] == 2
    assert found[("responder_circuit_breaker_services",)] == 3
    assert found[("responder_target_info", "2.0", "backend", "production")] == 1
    assert found[("responder_versions", "backend", "bad", "production")] == 3
    assert found[("responder_rollback_refused", "backend", "backend-down", "cooldown", "production")] == 1


def test_without_trouble_every_environment_has_a_zero() -> None:
    found = {(s.name, *s.labels.values()): s.value for s in state(snapshot(troubled=[]))}
    assert found[("responder_services_in_trouble", "production")] == 0


def test_a_version_deployed_by_a_rollback_has_no_deployment_time() -> None:
    names = {s.name for s in state(snapshot(running=[deployment(rolled_back_by="r1")]))}
    assert "responder_deployment_timestamp_seconds" not in names
    assert "responder_deployment_info" in names


def test_the_kill_switch_and_the_stop_file_disarm() -> None:
    for published in (state(snapshot(stopped="by bob")), state(snapshot(), disarmed="silenced")):
        assert next(s.value for s in published if s.name == "responder_armed") == 0


def test_without_a_journal_only_its_state_is_exported() -> None:
    values = {s.name: s.value for s in state(None)}
    assert values == {"responder_journal_up": 0.0, "responder_journal_read_seconds": 0.0}


REFUSED = ("backend", "deny", "cooldown", True)


@pytest.mark.parametrize(
    ("decided", "paged"),
    [
        ([REFUSED], ["cooldown"]),
        ([("backend", "deny", "cooldown", False)], []),  # the service is healthy, or no one needs to take over
        ([("backend", "ignore", "policy", False), REFUSED], ["cooldown"]),
        (
            [REFUSED, ("backend", "deny", "target_version", True)],
            ["target_version"],
        ),  # one page per service: the newest denial
        ([REFUSED, ("backend", "deny", "firing", False)], ["cooldown"]),
        ([REFUSED, ("backend", "allow", "mode", False)], []),  # a rollback started since
        ([REFUSED, ("backend", "require_approval", "mode", False)], []),
        ([("backend", "allow", "mode", False), REFUSED], ["cooldown"]),
        ([REFUSED, ("frontend", "allow", "mode", False)], ["cooldown"]),
        ([REFUSED, ("frontend", "deny", "target_version", True)], ["target_version", "cooldown"]),
    ],
)
async def test_one_denial_per_service_pages_and_only_if_a_human_must_take_over(
    decided: list[tuple[str, str, str, bool]], paged: list[str], journal: Database
) -> None:
    for n, (service, result, guard, needs_human) in enumerate(decided):
        fields = {
            "id": f"d{n}", "incident": f"i{n}", "at": at(n), "last_at": at(n), "policy": "p", "service": service,
            "environment": "production", "result": result, "guard": guard, "reason": "x", "body": "{}",
        }  # fmt: skip
        decision = decisions.RecordedDecision.model_validate({**fields, "needs_human": needs_human})
        await journal.transaction(record_decision, decision)
    found = await journal.read(take_snapshot, policy_set(), at(60))
    assert [row["guard"] for row in found.denied] == paged
    assert (await journal.read(take_snapshot, policy_set(), at(60 + 900 + 60))).denied == [], (
        "the cooldown ends after 15 minutes"
    )


def test_openmetrics_has_units_and_the_execution_as_exemplar() -> None:
    metrics = Metrics()
    tell(metrics, *whole())
    exposed = openmetrics_text(Families(metrics.registry.collect())).decode()
    families = {family.name: family for family in parse_openmetrics(exposed)}
    timed = [family.unit for name, family in families.items() if name.startswith("responder_") and "seconds" in name]
    assert set(timed) == {"seconds"}
    assert families["responder_evidence_bytes"].unit == "bytes"
    assert families["responder_alerts"].unit == ""
    for name in ("responder_executions", "responder_execution_duration_seconds"):
        exemplars = [sample.exemplar.labels for sample in families[name].samples if sample.exemplar]
        assert exemplars == [{"execution": "r1"}]

"""The guards for each service of an incident, and the incident of an execution."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from responder.backends.alertmanager.alerts import fingerprint
from responder.backends.connections import Connections
from responder.decisions.evaluation import collect, evaluate, evaluate_again, incident_of, others_in_trouble
from responder.decisions.facts import FleetState
from responder.decisions.guards import GUARDS, LOG_GUARDS, decide
from responder.decisions.limits import Watchdog
from responder.decisions.policies import BY_HAND
from responder.decisions.policy_set import PolicySet
from responder.journal import Database, decisions
from responder.journal.decisions import RecordedDecision
from responder.rollback.execution import begin
from responder.services import registry
from tests.responder.examples import (
    FIRES,
    LABELS,
    NOW,
    accepted,
    ago,
    alert,
    deployment,
    incident,
    make_facts,
    policy,
    policy_set,
    service,
    version_change,
)
from tests.responder.outside import FakeAlertmanager, FakePrometheus

BOTH = ("backend", "frontend")
TOGETHER = incident(together=BOTH, policy=policy(roll_back=BOTH, together=True))


def test_each_service_has_its_results_and_is_named_in_all_but_the_first() -> None:
    decision = evaluate(TOGETHER, [make_facts(), make_facts()], NOW)
    plain = [(result.guard, result.reason) for result in decide(TOGETHER, make_facts(), NOW).guard_results]
    assert [name for name, _ in plain] == [guard.name for guard in GUARDS]
    named = [(name, f"frontend: {reason}") for name, reason in plain]
    assert [(result.guard, result.reason) for result in decision.guard_results] == [*plain, *named]


@pytest.mark.parametrize("denied", [0, 1])
def test_a_denial_for_one_service_denies_all(denied: int) -> None:
    facts = [make_facts(), make_facts()]
    facts[denied] = make_facts(opened="r1")
    deciding = evaluate(TOGETHER, facts, NOW).deciding
    assert (deciding.guard, deciding.result) == ("duplicate_alert", "deny")


def test_preserving_logs_has_its_own_guards() -> None:
    decision = evaluate(incident(action="preserve_logs"), [make_facts()], NOW)
    assert [result.guard for result in decision.guard_results] == [guard.name for guard in LOG_GUARDS]


def test_the_incident_of_an_execution_is_the_one_that_it_was_accepted_for() -> None:
    by = policy_set()
    case = incident(requested_by="am-1", forced=True, received_at=ago(5))
    execution = begin("x", accepted(requested_by="am-1", forced=True, received_at=ago(5)))
    assert incident_of(execution, by) == case
    assert incident_of(begin("x", accepted(policy="gone")), by).policy == BY_HAND


def test_the_incident_of_an_execution_names_all_its_services() -> None:
    also = (version_change("frontend"),)
    assert incident_of(begin("x", accepted(also=also)), policy_set()).together == BOTH


@pytest.mark.parametrize("live", [None, FIRES])
async def test_the_state_of_the_fleet_is_collected_only_with_the_live_state(journal: Database, live: Any) -> None:
    by = policy_set(services=(service(), service("frontend")))
    lives = None if live is None else (live, live)
    found = await journal.read(collect, TOGETHER, lives, by, NOW, frozenset({"cart"}))
    assert [facts.service.name for facts in found if facts.service] == list(BOTH)
    fleet = None if live is None else FleetState(also_in_trouble=("cart",))
    assert [(facts.live, facts.fleet) for facts in found] == [(live, fleet)] * 2


async def test_the_fleet_of_an_unknown_service_is_not_collected(journal: Database) -> None:
    (facts,) = await journal.read(collect, incident(service="nobody"), (FIRES,), policy_set(), NOW)
    assert (facts.service, facts.live, facts.fleet) == (None, None, None)


async def record(journal: Database, of: str, at: datetime) -> None:
    fields = {
        "id": of,
        "incident": f"trouble of {of}",
        "policy": "backend-down",
        "environment": "production",
        "result": "deny",
        "guard": "cooldown",
        "reason": "x",
        "body": "{}",
    }
    await journal.transaction(decisions.insert, RecordedDecision(service=of, at=at, last_at=at, **fields))


async def test_others_in_trouble_since_before_the_rollback_was_accepted(journal: Database) -> None:
    by = policy_set(services=(service(), service("search", depends_on=("backend",))))
    within = by.policies[0].verify.within
    execution = begin("x", accepted(at=ago(60), alerts=(alert(),)))
    for of, seconds_ago in (
        ("a", 60 + within + 1),
        ("b", 60 + within),
        ("d", 0),
        ("c", 60),
        ("e", -1),
        ("search", 0),
        ("backend", 0),
    ):
        await record(journal, of, ago(seconds_ago))
    assert await journal.read(others_in_trouble, execution, by, NOW) == ("b", "c", "d")


# --- before the first change ---
Denied = tuple[str, bool, bool] | None
"""The guard, whether the trouble is resolved, and whether a system did not answer."""

Again = Callable[..., Awaitable[Denied]]


@pytest.fixture
async def again(
    journal: Database, connections: Connections, alertmanager: FakeAlertmanager, prometheus: FakePrometheus
) -> Again:
    """Evaluates again, for an execution with these fields, while the trouble persists."""
    now = datetime.now(UTC)
    await journal.transaction(registry.record, deployment(id="d0", version="2.0", at=ago(86400, now)), "good")
    await journal.transaction(registry.record, deployment(at=ago(600, now)))
    alertmanager.fires(LABELS, fingerprint(LABELS))
    prometheus.sees(LABELS)

    async def evaluated(*, although_resolved: bool = False, by: PolicySet | None = None, **fields: Any) -> Denied:
        fields = {"at": now, "received_at": now, "alerts": (alert(starts_at=ago(60, now)),), **fields}
        execution = begin("x", accepted(**fields)).model_copy(update={"although_resolved": although_resolved})
        how: Any = {"policy_set": by or policy_set(), "journal": journal, "connections": connections, "now": now}
        found = await evaluate_again(execution, **how)
        return (found.guard, found.resolved, found.unknown) if found else None

    return evaluated


async def test_nothing_denies_while_the_trouble_persists(again: Again) -> None:
    assert await again() is None


async def test_a_guard_without_live_data_is_not_evaluated_again(again: Again, journal: Database) -> None:
    await journal.transaction(decisions.set_kill_switch, "bob", "storm", NOW)
    assert await again() is None


@pytest.mark.parametrize("although_resolved", [False, True])
async def test_a_resolved_alert_denies_unless_a_person_approved_it_as_resolved(
    again: Again, alertmanager: FakeAlertmanager, although_resolved: bool
) -> None:
    alertmanager.alerts.clear()
    expected = None if although_resolved else ("still_firing", True, False)
    assert await again(although_resolved=although_resolved) == expected


@pytest.mark.parametrize("although_resolved", [False, True])
async def test_trouble_that_is_gone_denies_unless_a_person_approved_it_as_resolved(
    again: Again, prometheus: FakePrometheus, although_resolved: bool
) -> None:
    prometheus.recorded.clear()
    expected = None if although_resolved else ("trouble_now", True, False)
    assert await again(although_resolved=although_resolved) == expected


async def test_a_silenced_alert_is_not_resolved(again: Again, alertmanager: FakeAlertmanager) -> None:
    alertmanager.alerts.clear()
    alertmanager.fires(LABELS, fingerprint(LABELS), state="suppressed", silenced_by=("s1",))
    assert await again(although_resolved=True) == ("still_firing", False, False)


async def test_without_an_answer_the_state_is_unknown(again: Again, alertmanager: FakeAlertmanager) -> None:
    alertmanager.status = 503
    assert await again(although_resolved=True) == ("still_firing", False, True)


@pytest.mark.parametrize("gone", ["alert", "trouble"])
async def test_another_denial_does_not_count_as_resolved(
    again: Again, alertmanager: FakeAlertmanager, prometheus: FakePrometheus, gone: str
) -> None:
    (alertmanager.alerts if gone == "alert" else prometheus.recorded).clear()
    watching = policy_set().model_copy(update={"watchdog": Watchdog()})
    assert await again(although_resolved=True, by=watching) == ("armed", False, False)


@pytest.mark.parametrize("fields", [{"forced": True}, {"alerts": ()}])
async def test_the_request_of_a_person_is_not_evaluated_again(
    again: Again, alertmanager: FakeAlertmanager, fields: dict[str, Any]
) -> None:
    alertmanager.status = 503
    assert await again(**fields) is None
    assert alertmanager.requests == []

"""What follows from a decision: further queries, and whether a person must take over."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from responder.decisions.facts import Facts
from responder.decisions.guards import GUARDS, LIVE, GuardResult, decide, did_not_help, needs_human
from responder.decisions.incidents import Incident
from tests.responder.examples import FIRES, NOW, ago, alert, by_hand, incident, make_facts, past

TEMPORARY = {"service_configured", "in_progress", "still_firing", "trouble_now", "freeze_window", "mode"}
REQUESTED = incident(forced=True)
RESOLVED_WITHIN = timedelta(seconds=incident().policy.verify.resolved_within)


def denied(guard: str) -> GuardResult:
    return GuardResult(guard=guard, result="deny", reason="x")


@pytest.mark.parametrize("guard", [guard.name for guard in GUARDS if guard.name != "duplicate_alert"])
@pytest.mark.parametrize(
    ("case", "visible", "counts"),
    [
        (incident(), True, True),
        (incident(), False, False),
        (REQUESTED, False, True),
        (REQUESTED, True, True),
        (by_hand(), True, False),  # the requester has the answer
        (incident(action="preserve_logs"), True, False),
    ],
)
def test_a_lasting_denial_leaves_visible_trouble_to_people(
    guard: str, case: Incident, visible: bool, counts: bool
) -> None:
    needed = needs_human(case, denied(guard), make_facts(), NOW, trouble_visible=visible)
    assert needed is (counts and guard not in TEMPORARY)


@pytest.mark.parametrize("result", ["allow", "require_approval"])
def test_an_allowed_rollback_needs_nobody(result: Any) -> None:
    deciding = GuardResult(guard="cooldown", result=result, reason="x")
    assert not needs_human(REQUESTED, deciding, make_facts(), NOW, trouble_visible=True)


def opened(outcome: str | None, *, ended: float = 60) -> Facts:
    """The alert opened a rollback that ended so many seconds ago."""
    state = "closed" if outcome else "running"
    latest = past(id="r1", state=state, outcome=outcome, ended_at=ago(ended) if outcome else None)
    return make_facts(opened="r1", latest=latest)


@pytest.mark.parametrize(
    ("facts", "visible", "needed"),
    [
        (make_facts(opened="r1"), True, False),
        (opened(None), True, False),
        (opened("succeeded"), True, True),
        (opened("succeeded"), False, False),
        (opened("cancelled"), True, True),
        (opened("cancelled"), False, False),
        (opened("failed"), True, False),  # it pages by itself
        (opened("succeeded", ended=RESOLVED_WITHIN.total_seconds() + 1), False, True),  # it did not help
    ],
)
def test_a_duplicate_needs_people_if_its_rollback_left_the_trouble(facts: Facts, visible: bool, needed: bool) -> None:
    assert needs_human(incident(), denied("duplicate_alert"), facts, NOW, trouble_visible=visible) is needed


@pytest.mark.parametrize(
    ("facts", "after", "helped"),
    [
        (opened("succeeded", ended=0), RESOLVED_WITHIN, True),
        (opened("succeeded", ended=0), RESOLVED_WITHIN + timedelta(seconds=1), False),
        (opened("reverted", ended=0), RESOLVED_WITHIN * 2, True),
        (opened(None), RESOLVED_WITHIN * 2, True),
        (opened("succeeded", ended=0).model_copy(update={"opened": "r0"}), RESOLVED_WITHIN * 2, True),
        (make_facts(opened="r1"), RESOLVED_WITHIN * 2, True),
    ],
)
def test_a_rollback_did_not_help_if_its_alert_outlasts_it(facts: Facts, after: timedelta, helped: bool) -> None:
    assert did_not_help(incident(), facts, NOW + after) is not helped


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (opened("succeeded"), "this alert already opened rollback r1 (succeeded at 21:59:00 UTC)"),
        (opened(None), "this alert already opened rollback r1"),
        (opened("failed").model_copy(update={"opened": "r0"}), "this alert already opened rollback r0"),
        (opened("failed").model_copy(update={"opened": "r2"}), "this alert already opened rollback r2"),
        (
            opened("succeeded", ended=RESOLVED_WITHIN.total_seconds() + 1),
            "rollback r1 did not help: BackendDown still fires 15m1s after it was verified",
        ),
    ],
)
def test_a_duplicate_names_the_outcome_of_its_rollback(facts: Facts, reason: str) -> None:
    (found,) = [r for r in decide(incident(), facts, NOW).guard_results if r.guard == "duplicate_alert"]
    assert (found.result, found.reason) == ("deny", reason)


def test_guards_that_are_evaluated_again_before_the_first_change() -> None:
    assert {"armed", "circuit_breaker", "dependencies", "still_firing", "trouble_now"} == LIVE


@pytest.mark.parametrize("case", [by_hand(), REQUESTED])
def test_a_bypassed_guard_names_the_requester(case: Incident) -> None:
    reasons = {result.guard: result.reason for result in decide(case, make_facts(live=None), NOW).guard_results}
    bypassed = {guard.name for guard in GUARDS if guard.bypassed} | {"deployed_within", "still_firing"}
    assert {guard for guard, reason in reasons.items() if reason.startswith("bypassed")} == bypassed
    assert {reasons[guard] for guard in bypassed} == {f"bypassed: requested by {case.requested_by}"}


def test_guards_without_their_facts_are_not_evaluated() -> None:
    results = decide(incident(), make_facts(live=None, fleet=None), NOW).guard_results
    skipped = {"circuit_breaker", "rate_limit", "dependencies", "still_firing", "trouble_now"}
    assert {result.guard for result in results if result.reason.startswith("not evaluated")} == skipped
    assert {result.reason for result in results if result.guard in skipped} == {
        "not evaluated: another guard denied it"
    }


@pytest.mark.parametrize(
    ("others", "reason"),
    [
        (1, "1 other service in trouble"),
        (2, "3 services are in trouble within 2m (also s0, s1): a single deployment is not the cause"),
        (5, "6 services are in trouble within 2m (also s0, s1, s2, s3, s4): a"),
        (6, "7 services are in trouble within 2m (also s0, s1, s2, s3, s4 …): a"),
    ],
)
def test_the_circuit_breaker_names_the_first_services(others: int, reason: str) -> None:
    live = FIRES.model_copy(update={"also_in_trouble": tuple(f"s{n}" for n in range(others))})
    results = decide(incident(), make_facts(live=live), NOW).guard_results
    (found,) = [result for result in results if result.guard == "circuit_breaker"]
    assert found.reason.startswith(reason)


def test_a_rollback_that_did_not_help_names_its_first_alerts_and_whole_seconds() -> None:
    alerts = tuple(alert({"alertname": name}) for name in "DCBA")
    at = NOW + RESOLVED_WITHIN + timedelta(milliseconds=1500)
    results = decide(incident(alerts=alerts), opened("succeeded", ended=0), at).guard_results
    (found,) = [result for result in results if result.guard == "duplicate_alert"]
    assert found.reason == "rollback r1 did not help: A, B, C still fires 15m1s after it was verified"

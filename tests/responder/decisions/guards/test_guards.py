"""Each guard allows and denies for its own reason, the first denial decides, and a person bypasses some guards."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from responder.decisions.facts import Candidate, Facts, FleetState, LiveState, Replaced, TroubleNow
from responder.decisions.freeze_windows import Freeze
from responder.decisions.guards import GUARDS, Decision, GuardResult, decide, needs_live_data
from responder.decisions.incidents import Incident
from responder.decisions.limits import CircuitBreaker, Limits
from tests.responder.examples import FIRES, NOW, ago, alert, by_hand, deployment, incident, make_facts, past, policy

UNKNOWN = make_facts(service=None, service_problem="no service 'x' is configured", running=None, target=None, live=None)


def result_of(guard: str, case: Incident, facts: Facts) -> GuardResult:
    return next(v for v in decide(case, facts, NOW).guard_results if v.guard == guard)


def live(**other: Any) -> Facts:
    return make_facts(live=FIRES.model_copy(update=other))


def around(**other: Any) -> Facts:
    return make_facts(fleet=FleetState(**other))


def freeze(**other: Any) -> Freeze:
    return Freeze.model_validate({"name": "always", "time_intervals": [{}], **other})


ALWAYS = freeze()
YOUNGER = Replaced(version="2.2", at=ago(1200), status="candidate")


def aged(mode: str = "auto", **other: Any) -> Incident:
    return incident(policy=policy(mode=mode, **other))


@pytest.mark.parametrize(
    ("case", "facts", "guard", "result", "reason"),
    [
        (incident(), make_facts(), "mode", "allow", "auto mode"),
        (incident(), make_facts(stopped="stopped by bob: storm"), "kill_switch", "deny", "stopped by bob: storm"),
        (incident(), UNKNOWN, "service_configured", "deny", "no service 'x' is configured"),
        (incident(), make_facts(opened="r1"), "duplicate_alert", "deny", "already opened rollback r1"),
        (incident(), make_facts(latest=past(state="stuck", id="r1")), "in_progress", "deny", "responder close r1"),
        (incident(), make_facts(latest=past(state="running")), "in_progress", "deny", "is in progress (running)"),
        (
            incident(),
            make_facts(latest=past(state="awaiting_approval")),
            "in_progress",
            "deny",
            "is in progress (awaiting_approval)",
        ),
        (incident(), make_facts(latest=past(state="accepted")), "in_progress", "deny", "in progress (accepted)"),
        (incident(), make_facts(latest=past(state="reverting")), "in_progress", "deny", "(reverting)"),
        (incident(), make_facts(latest=past()), "mode", "allow", "auto mode"),
        (incident(), make_facts(running=None, target=None), "deployed_within", "deny", "no deployment was reported"),
        (incident(), make_facts(running=deployment(at=ago(3600))), "mode", "allow", "auto mode"),
        (incident(), make_facts(running=deployment(at=ago(3601))), "deployed_within", "deny", "1h1s ago, longer than"),
        (
            incident(alerts=(alert(starts_at=ago(720)),)),
            make_facts(),
            "deployed_within",
            "deny",
            "began 2m before 2.1 was deployed",
        ),
        (
            incident(alerts=(alert(), alert(starts_at=ago(631)))),
            make_facts(),
            "deployed_within",
            "deny",
            "the deployment is not the cause",
        ),
        (incident(alerts=(alert(starts_at=ago(630)),)), make_facts(), "mode", "allow", "auto mode"),
        (
            incident(),
            make_facts(running=deployment(rolled_back_by="r1")),
            "deployed_within",
            "deny",
            "the last change was rollback r1: rolling back further requires a human",
        ),
        (
            incident(),
            make_facts(replaced=YOUNGER),
            "restored_version",
            "deny",
            "2.1 was known good before and replaced the newer 2.2 at 21:50:00 UTC",
        ),
        (
            by_hand(),
            make_facts(replaced=YOUNGER),
            "mode",
            "allow",
            "requested by alice",
        ),
        (
            incident(),
            live(began_at=ago(750)).model_copy(update={"verified_at": ago(700)}),
            "mode",
            "allow",
            "auto mode",
        ),
        (
            incident(),
            live(began_at=ago(750)).model_copy(update={"verified_at": ago(800)}),
            "deployed_within",
            "deny",
            "before 2.1 was deployed",
        ),
        (
            incident(),
            live(began_at=ago(700)).model_copy(update={"verified_at": ago(700)}),
            "mode",
            "allow",
            "auto mode",
        ),
        (
            incident(alerts=(alert(starts_at=ago(750)),)),
            make_facts(verified_at=ago(700)),
            "mode",
            "allow",
            "auto mode",
        ),
        (incident(), make_facts(target=Candidate(version="9.9", status="good")), "mode", "allow", "auto mode"),
        (incident(), make_facts(target=None), "target_version", "deny", "no version other than 2.1 is known good"),
        (
            incident(),
            make_facts(target=Candidate(version="2.1", status="good")),
            "target_version",
            "deny",
            "2.1 is already running",
        ),
        (incident(), make_facts(target=Candidate(version="2.0", status="bad")), "target_version", "deny", "2.0 is bad"),
        (
            incident(),
            make_facts(target=Candidate(version="2.0", status="suspect")),
            "target_version",
            "deny",
            "is suspect",
        ),
        (
            incident(),
            make_facts(target=Candidate(version="2.0", status="retired")),
            "target_version",
            "deny",
            "is retired",
        ),
        (
            incident(),
            make_facts(target=Candidate(version="2.0", status="candidate")),
            "target_version",
            "deny",
            "is a candidate, not known good",
        ),
        (
            incident(),
            make_facts(tried_before=past(id="r0", from_version="2.1")),
            "once_per_version",
            "deny",
            "2.1 was rolled back before by r0 and deployed again",
        ),
        (
            incident(),
            make_facts(tried_before=past(id="r0", from_version="2.1", outcome=None, state="running")),
            "once_per_version",
            "deny",
            "r0, a rollback of 2.1, is running",
        ),
        (
            incident(),
            make_facts(tried_before=past(id="r0", from_version="2.1", outcome="reverted")),
            "once_per_version",
            "deny",
            "r0, an earlier rollback of 2.1, was reverted",
        ),
        (
            incident(),
            make_facts(tried_before=past(id="r0", from_version="2.1", outcome="cancelled", stop_requested_by="alice")),
            "once_per_version",
            "deny",
            "alice stopped r0, a rollback of 2.1",
        ),
        (incident(), live(also_in_trouble=("b", "c")), "circuit_breaker", "deny", "3 services are in trouble"),
        (
            incident(),
            make_facts(last_of_policy=past(ended_at=ago(1799))),
            "cooldown",
            "deny",
            "cooling down for another 1s",
        ),
        (incident(), make_facts(last_of_policy=past(ended_at=ago(1800))), "mode", "allow", "auto mode"),
        (
            aged(cooldown=7200.0),
            make_facts(last_of_policy=past(ended_at=ago(3600))),
            "cooldown",
            "deny",
            "another 1h after 20261123-210000-0000aaaa (until 23:00:00 UTC)",
        ),
        (aged(cooldown=0.0), make_facts(last_of_policy=past(ended_at=ago(0))), "mode", "allow", "auto mode"),
        (
            incident(),
            make_facts(live=LiveState(state="suppressed", reason="silence s1 of bob: deploying")),
            "still_firing",
            "deny",
            "muted in Alertmanager: silence s1 of bob: deploying",
        ),
        (
            incident(),
            make_facts(live=LiveState(state="gone", reason="not there")),
            "still_firing",
            "deny",
            "already resolved",
        ),
        (
            incident(),
            make_facts(live=LiveState(state="unknown", reason="no answer")),
            "still_firing",
            "deny",
            "cannot tell whether an alert still fires: no answer",
        ),
        (incident(), live(trouble_now=TroubleNow(state="gone", reason="well again")), "trouble_now", "deny", "well"),
        (incident(), live(trouble_now=TroubleNow(state="unknown", reason="?")), "trouble_now", "deny", "?"),
        (incident(), live(trouble_now=None), "trouble_now", "deny", "not queried"),
        (incident(), make_facts(disarmed="no watchdog"), "armed", "deny", "automation is disarmed: no watchdog"),
        (incident(), live(disarmed="muted: silence s1 of bob"), "armed", "deny", "muted: silence s1 of bob"),
        (incident(), live(began_at=ago(631)), "deployed_within", "deny", "began 31s before 2.1 was deployed"),
        (incident(), live(began_at=ago(630)), "mode", "allow", "auto mode"),
        (incident(), live(older_trouble="up == 0 had a result"), "deployed_within", "deny", "up == 0 had a result"),
        (
            incident(),
            make_facts(incompatible=("cart 3 works with backend >=2.1",)),
            "compatibility",
            "deny",
            "cart 3 works with backend",
        ),
        (
            by_hand(),
            make_facts(incompatible=("cart 3 works with backend >=2.1",)),
            "compatibility",
            "deny",
            "roll the services back together",
        ),
        (
            incident(),
            make_facts(no_rollback_past="2.0.1: fixes a CVE"),
            "protected_version",
            "deny",
            "2.0.1: fixes a CVE",
        ),
        (
            incident(),
            around(also_in_trouble=("b", "c")),
            "circuit_breaker",
            "deny",
            "3 services are in trouble within 2m",
        ),
        (incident(), around(also_in_trouble=("b",)), "mode", "allow", "auto mode"),
        (incident(), around(begun_lately=6), "rate_limit", "deny", "rollbacks in the last hour: 6, allowed: "),
        (incident(), around(begun_lately=5), "mode", "allow", "auto mode"),
        (
            incident(),
            around(begun_lately=7, next_place_at=NOW),
            "rate_limit",
            "deny",
            "allowed: 6 (next allowed at 22:00:00 UTC)",
        ),
        (incident(), around(needs_locked=("db (r1 is running)",)), "dependencies", "deny", "db (r1 is running)"),
        (
            incident(),
            live(needs_failing=("db (no answer)",)),
            "dependencies",
            "deny",
            "a dependency is failing: db (no answer)",
        ),
        (incident(), make_facts(freezes=(ALWAYS,)), "freeze_window", "require_approval", "frozen by always"),
        (incident(), make_facts(freezes=(freeze(services=("other",)),)), "mode", "allow", "auto mode"),
        (aged("observe"), make_facts(freezes=(ALWAYS,)), "mode", "deny", "observe mode"),
        (aged("observe"), make_facts(), "mode", "deny", "observe mode: would have acted"),
        (aged("approve"), make_facts(), "mode", "require_approval", "policy backend-down requires approval"),
        # A person.
        (by_hand(), make_facts(live=None), "mode", "allow", "requested by alice"),
        (by_hand(policy=policy(mode="observe")), make_facts(live=None), "mode", "allow", "requested by alice"),
        (by_hand(policy=policy(mode="approve")), make_facts(live=None), "mode", "allow", "requested by alice"),
        (by_hand(), make_facts(running=deployment(at=ago(10**6))), "mode", "allow", "requested by alice"),
        (by_hand(), make_facts(last_of_policy=past(ended_at=ago(1))), "mode", "allow", "requested by alice"),
        (by_hand(), make_facts(tried_before=past()), "mode", "allow", "requested by alice"),
        (by_hand(), make_facts(running=deployment(rolled_back_by="r1")), "mode", "allow", "requested by alice"),
        (by_hand(), make_facts(target=Candidate(version="2.0", status="candidate")), "mode", "allow", "by alice"),
        (by_hand(), make_facts(live=LiveState(state="suppressed", reason="")), "mode", "allow", "requested by alice"),
        (by_hand(), make_facts(live=LiveState(state="gone", reason="")), "mode", "allow", "requested by alice"),
        (by_hand(), live(trouble_now=TroubleNow(state="gone", reason="")), "mode", "allow", "requested by alice"),
        (incident(forced=True), live(trouble_now=None), "mode", "allow", "requested by"),
        (by_hand(), make_facts(disarmed="no watchdog"), "mode", "allow", "requested by alice"),
        (by_hand(), around(also_in_trouble=("b", "c", "d")), "mode", "allow", "requested by alice"),
        (by_hand(), around(begun_lately=9), "mode", "allow", "requested by alice"),
        (by_hand(), around(needs_locked=("db (r1 is stuck)",)), "mode", "allow", "requested by alice"),
        (by_hand(), make_facts(freezes=(ALWAYS,)), "mode", "allow", "requested by alice"),
        (
            by_hand(),
            make_facts(no_rollback_past="2.0.1: CVE"),
            "protected_version",
            "deny",
            "mark backend VERSION --lift",
        ),
        # A request by alert: the same, but the alert must exist.
        (incident(forced=True), make_facts(last_of_policy=past(ended_at=ago(1))), "mode", "allow", "by alertmanager"),
        (
            incident(forced=True),
            make_facts(live=LiveState(state="gone", reason="x")),
            "still_firing",
            "deny",
            "already resolved",
        ),
        (by_hand(), make_facts(stopped="the stop file exists"), "kill_switch", "deny", "the stop file exists"),
        (by_hand(), UNKNOWN, "service_configured", "deny", "is configured"),
        (by_hand(), make_facts(latest=past(state="stuck")), "in_progress", "deny", "is stuck and needs a human"),
        (by_hand(), make_facts(latest=past(state="running")), "in_progress", "deny", "is in progress"),
        (by_hand(), make_facts(running=None, target=None), "deployed_within", "deny", "nothing to roll back"),
        (by_hand(), make_facts(target=Candidate(version="2.0", status="bad")), "target_version", "deny", "2.0 is bad"),
        (by_hand(), make_facts(target=Candidate(version="2.0", status="suspect")), "target_version", "deny", "suspect"),
        (by_hand(), make_facts(target=Candidate(version="2.0", status="retired")), "target_version", "deny", "retired"),
        (
            by_hand(),
            make_facts(target=Candidate(version="2.1", status="good")),
            "target_version",
            "deny",
            "already running",
        ),
        (
            by_hand(version="0.9"),
            make_facts(target=None),
            "target_version",
            "deny",
            "0.9 is unknown: it was never deployed",
        ),
        (by_hand(version="2.0"), make_facts(), "mode", "allow", "requested by alice"),
        (by_hand(), make_facts(target=None), "target_version", "deny", "responder versions backend"),
    ],
)
def test_the_deciding_guard_and_its_reason(case: Incident, facts: Facts, guard: str, result: str, reason: str) -> None:
    deciding = decide(case, facts, NOW).deciding
    assert (deciding.guard, deciding.result) == (guard, result)
    assert reason in deciding.reason


def test_every_guard_is_evaluated_even_if_an_early_one_denies() -> None:
    decision = decide(aged("observe"), make_facts(stopped="storm", opened="r1"), NOW)
    assert [v.guard for v in decision.guard_results] == [guard.name for guard in GUARDS]
    assert decision.deciding.guard == "kill_switch"
    assert [v.guard for v in decision.guard_results if v.result == "deny"] == [
        "kill_switch",
        "duplicate_alert",
        "mode",
    ]


def test_without_a_service_the_later_guards_are_skipped() -> None:
    assert [v.guard for v in decide(incident(), UNKNOWN, NOW).guard_results] == [
        "kill_switch",
        "armed",
        "service_configured",
    ]


def test_every_result_has_a_reason() -> None:
    for facts in (make_facts(), UNKNOWN, make_facts(running=None, target=None), make_facts(live=None)):
        for case in (incident(), by_hand()):
            assert all(v.reason for v in decide(case, facts, NOW).guard_results)


def test_a_denial_outweighs_an_earlier_required_approval() -> None:
    guard_results = (
        GuardResult(guard="a", result="require_approval", reason="x"),
        GuardResult(guard="b", result="deny", reason="y"),
        GuardResult(guard="c", result="allow", reason="z"),
    )
    assert Decision(guard_results=guard_results).deciding.guard == "b"
    assert Decision(guard_results=(guard_results[0], guard_results[2])).deciding.guard == "a"
    assert Decision(guard_results=(guard_results[2],)).deciding.guard == "c"


def test_observe_mode_is_evaluated_last_and_shows_what_auto_would_have_done() -> None:
    facts = make_facts(last_of_policy=past(ended_at=ago(10)))
    observed, acted = decide(aged("observe"), facts, NOW), decide(aged("auto"), facts, NOW)
    assert observed.deciding == acted.deciding
    assert observed.guard_results[:-1] == acted.guard_results[:-1]


@pytest.mark.parametrize(
    ("case", "facts", "needed"),
    [
        (incident(), make_facts(live=None), True),
        (aged("approve"), make_facts(live=None), True),
        (aged("observe"), make_facts(live=None), True),
        (incident(), make_facts(live=FIRES), False),
        (incident(), make_facts(live=None, opened="r1"), False),
        (aged("observe"), make_facts(live=None, stopped="storm"), False),
        (by_hand(), make_facts(live=None), False),
        (incident(forced=True), make_facts(live=None), True),
        (incident(), UNKNOWN, False),
        (incident(), make_facts(live=None, freezes=(ALWAYS,)), True),
        # Whether the version that was replaced is to blame.
        (incident(), make_facts(live=None, replaced=YOUNGER), True),
        (incident(), make_facts(live=None, replaced=YOUNGER, target=None), True),
        (incident(), make_facts(live=None, replaced=YOUNGER, running=deployment(at=ago(10**6))), True),
        (incident(), make_facts(live=None, replaced=YOUNGER.model_copy(update={"status": "bad"})), False),
        (incident(), make_facts(live=None, replaced=YOUNGER, opened="r1"), False),
        (by_hand(), make_facts(live=None, replaced=YOUNGER), False),
    ],
)
def test_alertmanager_is_queried_only_if_nothing_else_denies(case: Incident, facts: Facts, needed: bool) -> None:
    assert needs_live_data(case, decide(case, facts, NOW), facts) is needed


def test_a_deployment_in_the_future_has_no_negative_age() -> None:
    facts = make_facts(running=deployment(at=NOW + timedelta(seconds=30)))
    case = incident(alerts=(alert(starts_at=NOW + timedelta(seconds=40)),))
    result = result_of("deployed_within", case, facts)
    assert result.result == "allow"
    assert "2.1 was deployed 0s ago" in result.reason


def test_the_cooldown_is_shown_to_the_second() -> None:
    facts = make_facts(last_of_policy=past(ended_at=NOW - timedelta(seconds=10, milliseconds=500)))
    assert "another 29m49s after" in result_of("cooldown", incident(), facts).reason


def test_the_age_of_a_deployment_is_reported_to_the_second() -> None:
    half = timedelta(milliseconds=500)
    facts = make_facts(running=deployment(at=ago(600) - half))
    assert "2.1 was deployed 10m ago" in result_of("deployed_within", incident(), facts).reason
    older = incident(alerts=(alert(starts_at=ago(720) - half * 2),))
    assert "began 2m before 2.1 was deployed" in result_of("deployed_within", older, facts).reason


@pytest.mark.parametrize("others", [1, 2, 3, 4])
@pytest.mark.parametrize(("more", "result"), [(1, "deny"), (2, "allow")])
def test_the_circuit_breaker_counts_the_service_itself(others: int, more: int, result: str) -> None:
    fleet = FleetState(also_in_trouble=tuple(f"s{n}" for n in range(others)))
    limits = Limits(circuit_breaker=CircuitBreaker(services=others + more))
    assert result_of("circuit_breaker", incident(), make_facts(fleet=fleet, limits=limits)).result == result


def test_in_a_storm_the_circuit_breaker_counts_no_further_than_it_must() -> None:
    for others, number in ((22, "23"), (23, "at least 24")):
        fleet = FleetState(also_in_trouble=tuple(f"s{n:02d}" for n in range(others)))
        found = result_of("circuit_breaker", incident(), make_facts(fleet=fleet))
        assert found.reason.startswith(f"{number} services are in trouble within 2m (also s00, s01, s02, s03, s04 …)")


def test_a_rate_limit_without_a_next_place_names_no_time() -> None:
    found = result_of("rate_limit", incident(), around(begun_lately=6))
    assert found.reason == "rollbacks in the last hour: 6, allowed: 6"

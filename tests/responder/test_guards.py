"""Each guard says yes and no for its own reason, the first no decides, and a person passes only what is theirs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from responder.freezes import Freeze
from responder.guards import GUARDS, Judgement, Verdict, judge, needs_more
from responder.policies import Incident
from responder.survey import Around, Candidate, Live, Replaced, Situation, TroubleNow
from tests.responder.examples import FIRES, NOW, ago, alert, by_hand, deployment, incident, past, policy, situation

UNKNOWN = situation(service=None, service_problem="no service 'x' is configured", running=None, target=None, live=None)


def verdict_of(guard: str, case: Incident, facts: Situation) -> Verdict:
    return next(v for v in judge(case, facts, NOW).verdicts if v.guard == guard)


def live(**other: Any) -> Situation:
    return situation(live=FIRES.model_copy(update=other))


def around(**other: Any) -> Situation:
    return situation(around=Around(**other))


def freeze(**other: Any) -> Freeze:
    return Freeze.model_validate({"name": "always", "time_intervals": [{}], **other})


ALWAYS = freeze()
YOUNGER = Replaced(version="2.2", at=ago(1200), status="candidate")


def aged(mode: str = "auto", **other: Any) -> Incident:
    return incident(policy=policy(mode=mode, **other))


@pytest.mark.parametrize(
    ("case", "facts", "guard", "verdict", "reason"),
    [
        (incident(), situation(), "mode", "allow", "auto mode"),
        (incident(), situation(stopped="stopped by bob: storm"), "stopped", "refuse", "stopped by bob: storm"),
        (incident(), UNKNOWN, "known", "refuse", "no service 'x' is configured"),
        (incident(), situation(opened="r1"), "episode", "refuse", "has opened the rollback r1 already"),
        (incident(), situation(latest=past(state="stuck", id="r1")), "single_flight", "refuse", "responder close r1"),
        (incident(), situation(latest=past(state="running")), "single_flight", "refuse", "is under way (running)"),
        (incident(), situation(latest=past(state="held")), "single_flight", "refuse", "is under way (held)"),
        (incident(), situation(latest=past(state="accepted")), "single_flight", "refuse", "under way (accepted)"),
        (incident(), situation(latest=past(state="turning_back")), "single_flight", "refuse", "(turning_back)"),
        (incident(), situation(latest=past()), "mode", "allow", "auto mode"),
        (incident(), situation(running=None, target=None), "deployed_within", "refuse", "no deployment of it was ever"),
        (incident(), situation(running=deployment(at=ago(3600))), "mode", "allow", "auto mode"),
        (incident(), situation(running=deployment(at=ago(3601))), "deployed_within", "refuse", "1h1s ago, longer than"),
        (
            incident(alerts=(alert(starts_at=ago(720)),)),
            situation(),
            "deployed_within",
            "refuse",
            "began 2m before 2.1 was deployed",
        ),
        (
            incident(alerts=(alert(), alert(starts_at=ago(631)))),
            situation(),
            "deployed_within",
            "refuse",
            "it is not the deployment",
        ),
        (incident(alerts=(alert(starts_at=ago(630)),)), situation(), "mode", "allow", "auto mode"),
        (
            incident(),
            situation(running=deployment(rolled_back_by="r1")),
            "deployed_within",
            "refuse",
            "our own rollback r1: going back further needs a human",
        ),
        (
            incident(),
            situation(replaced=YOUNGER),
            "restored_version",
            "refuse",
            "2.1 was known good before and replaced the younger 2.2 at 21:50:00 UTC",
        ),
        (
            by_hand(),
            situation(replaced=YOUNGER),
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
            "refuse",
            "before 2.1 was deployed",
        ),
        (incident(), situation(target=None), "target", "refuse", "no version other than 2.1 is known good"),
        (
            incident(),
            situation(target=Candidate(version="2.1", status="good")),
            "target",
            "refuse",
            "2.1 is the version that runs",
        ),
        (incident(), situation(target=Candidate(version="2.0", status="bad")), "target", "refuse", "2.0 is bad"),
        (incident(), situation(target=Candidate(version="2.0", status="suspect")), "target", "refuse", "is suspect"),
        (incident(), situation(target=Candidate(version="2.0", status="retired")), "target", "refuse", "is retired"),
        (
            incident(),
            situation(target=Candidate(version="2.0", status="candidate")),
            "target",
            "refuse",
            "is a candidate, not known good",
        ),
        (
            incident(),
            situation(tried_before=past(id="r0", from_version="2.1")),
            "once_per_version",
            "refuse",
            "2.1 was rolled back before by r0 and deployed again",
        ),
        (
            incident(),
            situation(tried_before=past(id="r0", from_version="2.1", outcome="compensated")),
            "once_per_version",
            "refuse",
            "r0 tried to roll 2.1 back before and was compensated",
        ),
        (
            incident(),
            situation(tried_before=past(id="r0", from_version="2.1", outcome="cancelled", stop_by="alice")),
            "once_per_version",
            "refuse",
            "alice stopped r0, which was to roll 2.1 back",
        ),
        (incident(), live(also_in_trouble=("b", "c")), "brake", "refuse", "3 services are in trouble"),
        (
            incident(),
            situation(last_of_policy=past(ended_at=ago(1799))),
            "cooldown",
            "refuse",
            "cooling down for another 1s",
        ),
        (incident(), situation(last_of_policy=past(ended_at=ago(1800))), "mode", "allow", "auto mode"),
        (
            aged(cooldown=7200.0),
            situation(last_of_policy=past(ended_at=ago(3600))),
            "cooldown",
            "refuse",
            "another 1h after 20261123-210000-0000aaaa (until 23:00:00 UTC)",
        ),
        (aged(cooldown=0.0), situation(last_of_policy=past(ended_at=ago(0))), "mode", "allow", "auto mode"),
        (
            incident(),
            situation(live=Live(state="suppressed", reason="silence s1 of bob: deploying")),
            "firing",
            "refuse",
            "muted in Alertmanager: silence s1 of bob: deploying",
        ),
        (incident(), situation(live=Live(state="gone", reason="not there")), "firing", "refuse", "resolved by now"),
        (
            incident(),
            situation(live=Live(state="unknown", reason="no answer")),
            "firing",
            "refuse",
            "cannot tell whether it still fires: no answer",
        ),
        (incident(), live(trouble_now=TroubleNow(state="gone", reason="well again")), "trouble_now", "refuse", "well"),
        (incident(), live(trouble_now=TroubleNow(state="unknown", reason="?")), "trouble_now", "refuse", "?"),
        (incident(), live(trouble_now=None), "trouble_now", "refuse", "it was not asked"),
        (incident(), situation(disarmed="no watchdog"), "armed", "refuse", "automation is disarmed: no watchdog"),
        (incident(), live(disarmed="muted: silence s1 of bob"), "armed", "refuse", "muted: silence s1 of bob"),
        (incident(), live(began_at=ago(631)), "deployed_within", "refuse", "began 31s before 2.1 was deployed"),
        (incident(), live(began_at=ago(630)), "mode", "allow", "auto mode"),
        (incident(), live(was_so_before="up == 0 had a result"), "deployed_within", "refuse", "up == 0 had a result"),
        (
            incident(),
            situation(unfit=("cart 3 works with backend >=2.1",)),
            "fits",
            "refuse",
            "cart 3 works with backend",
        ),
        (by_hand(), situation(unfit=("cart 3 works with backend >=2.1",)), "fits", "refuse", "roll them back together"),
        (incident(), situation(no_rollback_past="2.0.1: fixes a CVE"), "no_rollback", "refuse", "2.0.1: fixes a CVE"),
        (incident(), around(also_in_trouble=("b", "c")), "brake", "refuse", "3 services are in trouble within 2m"),
        (incident(), around(also_in_trouble=("b",)), "mode", "allow", "auto mode"),
        (incident(), around(begun_lately=6), "per_hour", "refuse", "rollbacks in the last hour: 6, allowed: "),
        (incident(), around(begun_lately=5), "mode", "allow", "auto mode"),
        (
            incident(),
            around(begun_lately=7, next_place_at=NOW),
            "per_hour",
            "refuse",
            "allowed: 6 (again at 22:00:00 UTC)",
        ),
        (incident(), around(needs_locked=("db (r1 is running)",)), "dependencies", "refuse", "db (r1 is running)"),
        (
            incident(),
            live(needs_failing=("db (no answer)",)),
            "dependencies",
            "refuse",
            "failing itself: db (no answer)",
        ),
        (incident(), situation(freezes=(ALWAYS,)), "freeze", "needs_approval", "frozen by always"),
        (incident(), situation(freezes=(freeze(services=("other",)),)), "mode", "allow", "auto mode"),
        (aged("observe"), situation(freezes=(ALWAYS,)), "mode", "refuse", "observe mode"),
        (aged("observe"), situation(), "mode", "refuse", "observe mode: it would have acted"),
        (aged("approve"), situation(), "mode", "needs_approval", "policy backend-down asks for approval"),
        # A person.
        (by_hand(), situation(live=None), "mode", "allow", "requested by alice"),
        (by_hand(policy=policy(mode="observe")), situation(live=None), "mode", "allow", "requested by alice"),
        (by_hand(policy=policy(mode="approve")), situation(live=None), "mode", "allow", "requested by alice"),
        (by_hand(), situation(running=deployment(at=ago(10**6))), "mode", "allow", "requested by alice"),
        (by_hand(), situation(last_of_policy=past(ended_at=ago(1))), "mode", "allow", "requested by alice"),
        (by_hand(), situation(tried_before=past()), "mode", "allow", "requested by alice"),
        (by_hand(), situation(running=deployment(rolled_back_by="r1")), "mode", "allow", "requested by alice"),
        (by_hand(), situation(target=Candidate(version="2.0", status="candidate")), "mode", "allow", "by alice"),
        (by_hand(), situation(live=Live(state="suppressed", reason="")), "mode", "allow", "requested by alice"),
        (by_hand(), situation(live=Live(state="gone", reason="")), "mode", "allow", "requested by alice"),
        (by_hand(), live(trouble_now=TroubleNow(state="gone", reason="")), "mode", "allow", "requested by alice"),
        (incident(forced=True), live(trouble_now=None), "mode", "allow", "requested by"),
        (by_hand(), situation(disarmed="no watchdog"), "mode", "allow", "requested by alice"),
        (by_hand(), around(also_in_trouble=("b", "c", "d")), "mode", "allow", "requested by alice"),
        (by_hand(), around(begun_lately=9), "mode", "allow", "requested by alice"),
        (by_hand(), around(needs_locked=("db (r1 is stuck)",)), "mode", "allow", "requested by alice"),
        (by_hand(), situation(freezes=(ALWAYS,)), "mode", "allow", "requested by alice"),
        (by_hand(), situation(no_rollback_past="2.0.1: CVE"), "no_rollback", "refuse", "mark backend VERSION --lift"),
        # An engineer who asks by an alert: the same, but the alert must be there.
        (incident(forced=True), situation(last_of_policy=past(ended_at=ago(1))), "mode", "allow", "by alertmanager"),
        (incident(forced=True), situation(live=Live(state="gone", reason="x")), "firing", "refuse", "resolved by now"),
        (by_hand(), situation(stopped="the stop file exists"), "stopped", "refuse", "the stop file exists"),
        (by_hand(), UNKNOWN, "known", "refuse", "is configured"),
        (by_hand(), situation(latest=past(state="stuck")), "single_flight", "refuse", "is stuck and needs a human"),
        (by_hand(), situation(latest=past(state="running")), "single_flight", "refuse", "is under way"),
        (by_hand(), situation(running=None, target=None), "deployed_within", "refuse", "nothing to roll back"),
        (by_hand(), situation(target=Candidate(version="2.0", status="bad")), "target", "refuse", "2.0 is bad"),
        (by_hand(), situation(target=Candidate(version="2.0", status="suspect")), "target", "refuse", "suspect"),
        (by_hand(), situation(target=Candidate(version="2.0", status="retired")), "target", "refuse", "retired"),
        (by_hand(), situation(target=Candidate(version="2.1", status="good")), "target", "refuse", "that runs"),
        (by_hand(version="0.9"), situation(target=None), "target", "refuse", "0.9 is not known: it was never deployed"),
        (by_hand(), situation(target=None), "target", "refuse", "responder versions backend"),
    ],
)
def test_who_decides_and_why(case: Incident, facts: Situation, guard: str, verdict: str, reason: str) -> None:
    deciding = judge(case, facts, NOW).deciding
    assert (deciding.guard, deciding.verdict) == (guard, verdict)
    assert reason in deciding.reason


def test_every_guard_is_asked_even_where_an_early_one_refuses() -> None:
    judgement = judge(aged("observe"), situation(stopped="storm", opened="r1"), NOW)
    assert [v.guard for v in judgement.verdicts] == [guard.__name__ for guard in GUARDS]
    assert judgement.deciding.guard == "stopped"
    assert [v.guard for v in judgement.verdicts if v.verdict == "refuse"] == ["stopped", "episode", "mode"]


def test_without_a_service_nothing_else_can_be_asked() -> None:
    assert [v.guard for v in judge(incident(), UNKNOWN, NOW).verdicts] == ["stopped", "armed", "known"]


def test_every_verdict_has_a_reason() -> None:
    for facts in (situation(), UNKNOWN, situation(running=None, target=None), situation(live=None)):
        for case in (incident(), by_hand()):
            assert all(v.reason for v in judge(case, facts, NOW).verdicts)


def test_a_refusal_outweighs_an_approval_that_comes_before_it() -> None:
    verdicts = (
        Verdict(guard="a", verdict="needs_approval", reason="x"),
        Verdict(guard="b", verdict="refuse", reason="y"),
        Verdict(guard="c", verdict="allow", reason="z"),
    )
    assert Judgement(verdicts=verdicts).deciding.guard == "b"
    assert Judgement(verdicts=(verdicts[0], verdicts[2])).deciding.guard == "a"
    assert Judgement(verdicts=(verdicts[2],)).deciding.guard == "c"


def test_observe_mode_is_asked_last_so_that_it_shows_what_auto_would_have_done() -> None:
    facts = situation(last_of_policy=past(ended_at=ago(10)))
    observed, acted = judge(aged("observe"), facts, NOW), judge(aged("auto"), facts, NOW)
    assert observed.deciding == acted.deciding
    assert observed.verdicts[:-1] == acted.verdicts[:-1]


@pytest.mark.parametrize(
    ("case", "facts", "needed"),
    [
        (incident(), situation(live=None), True),
        (aged("approve"), situation(live=None), True),
        (aged("observe"), situation(live=None), True),
        (incident(), situation(live=FIRES), False),
        (incident(), situation(live=None, opened="r1"), False),
        (aged("observe"), situation(live=None, stopped="storm"), False),
        (by_hand(), situation(live=None), False),
        (incident(forced=True), situation(live=None), True),
        (incident(), UNKNOWN, False),
        # Whether the version that was replaced is to blame.
        (incident(), situation(live=None, replaced=YOUNGER), True),
        (incident(), situation(live=None, replaced=YOUNGER, target=None), True),
        (incident(), situation(live=None, replaced=YOUNGER, running=deployment(at=ago(10**6))), True),
        (incident(), situation(live=None, replaced=YOUNGER.model_copy(update={"status": "bad"})), False),
        (incident(), situation(live=None, replaced=YOUNGER, opened="r1"), False),
        (by_hand(), situation(live=None, replaced=YOUNGER), False),
    ],
)
def test_alertmanager_is_asked_only_where_nothing_else_speaks_against_it(
    case: Incident, facts: Situation, needed: bool
) -> None:
    assert needs_more(case, judge(case, facts, NOW), facts) is needed


def test_a_deployment_from_the_future_is_no_negative_age() -> None:
    facts = situation(running=deployment(at=NOW + timedelta(seconds=30)))
    case = incident(alerts=(alert(starts_at=NOW + timedelta(seconds=40)),))
    verdict = verdict_of("deployed_within", case, facts)
    assert verdict.verdict == "allow"
    assert "2.1 was deployed 0s ago" in verdict.reason


def test_the_cooldown_is_told_to_the_second() -> None:
    facts = situation(last_of_policy=past(ended_at=NOW - timedelta(seconds=10, milliseconds=500)))
    assert "another 29m49s after" in verdict_of("cooldown", incident(), facts).reason

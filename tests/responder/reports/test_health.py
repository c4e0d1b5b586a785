"""The same facts give the same report; unknown is never healthy; every recommendation names its fact."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from responder.reports.facts import CheckResult, Cooldown, Denial, ReportInputs, Rollback, ServiceFacts
from responder.reports.health import Report, make_report, status_of
from responder.reports.health_text import markdown
from tests.responder.examples import NOW, ago, deployment


def check(state: Any = "holds", kind: Any = "health", reason: str = "up is 1") -> CheckResult:
    return CheckResult(kind=kind, check="up", state=state, reason=reason)


def rollback(**other: Any) -> Rollback:
    fields = {
        "id": "r1", "service": "backend", "environment": "production", "policy": "p", "state": "closed",
        "outcome": "succeeded", "from_version": "2.1", "to_version": "2.0", "reason": "down",
        "accepted_at": ago(120), "ended_at": ago(60), "plan_hash": "abc", **other,
    }  # fmt: skip
    return Rollback.model_validate(fields)


def under_way(state: str, **other: Any) -> Rollback:
    return rollback(state=state, outcome=None, ended_at=None, **other)


def service(**other: Any) -> ServiceFacts:
    """Everything is healthy."""
    fields = {
        "service": "backend", "environment": "production", "running": deployment(), "target": "2.0",
        "checks": (check(),), "modes": {"p": "auto"}, **other,
    }  # fmt: skip
    return ServiceFacts(**fields)


def report(*services: ServiceFacts, **other: Any) -> Report:
    fields = {"at": NOW, "since": ago(86400), "services": services or (service(),), **other}
    return make_report(ReportInputs(**fields))


def test_a_healthy_system_has_no_recommendations() -> None:
    made = report()
    assert (made.status, made.failed_checks, made.unanswered_checks) == ("healthy", [], [])
    assert (made.warnings, made.recommendations) == ([], [])


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ({}, "healthy"),
        ({"checks": (check(), check("fails"))}, "unhealthy"),
        ({"checks": (check("unknown"), check("fails"))}, "unhealthy"),
        ({"checks": (check(), check("unknown"))}, "unknown"),
        ({"checks": ()}, "unknown"),
        ({"checks": (check(kind="traffic"),)}, "unknown"),
        ({"checks": (check(), check("fails", "traffic"))}, "degraded"),
        ({"checks": (check(), check("unknown", "traffic"))}, "degraded"),
        ({"open": under_way("running")}, "degraded"),
        ({"open": under_way("awaiting_approval")}, "degraded"),
        ({"running": deployment(status="bad")}, "degraded"),
        ({"running": deployment(status="suspect")}, "degraded"),
        ({"running": None}, "healthy"),
    ],
)
def test_the_status_of_a_service_follows_from_its_checks(facts: dict[str, Any], status: str) -> None:
    assert status_of(service(**facts)) == status


SICK = service(service="sick", checks=(check("fails"),))
UNKNOWN = service(service="unknown", checks=(check("unknown"),))
SO_SO = service(service="so-so", running=deployment(status="bad"))


@pytest.mark.parametrize(
    ("services", "facts", "status"),
    [
        ((service(),), {}, "healthy"),
        ((service(), SO_SO), {}, "degraded"),
        ((service(), SO_SO, UNKNOWN), {}, "unknown"),
        ((service(), SO_SO, UNKNOWN, SICK), {}, "unhealthy"),
        ((service(open=under_way("stuck")),), {}, "unhealthy"),
        ((service(),), {"stopped": "stopped by alice: x"}, "degraded"),
        ((service(),), {"disarmed": "silenced"}, "degraded"),
        ((service(),), {"has_lease": False}, "degraded"),
        ((UNKNOWN,), {"stopped": "x"}, "unknown"),
    ],
)
def test_the_overall_status_is_the_worst_one(
    services: tuple[ServiceFacts, ...], facts: dict[str, Any], status: str
) -> None:
    assert report(*services, **facts).status == status


def test_without_services_the_status_is_unknown() -> None:
    assert make_report(ReportInputs(at=NOW, since=NOW)).status == "unknown"


# the fact, the text of the warning, the target of the recommendation (empty: none)
NOTES: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
    ({}, {"stopped": "stopped by alice: move"}, "automation is off: stopped by alice: move", "responder close --all"),
    ({}, {"disarmed": "silenced by bob"}, "automation is disarmed: silenced by bob", "arm-with-a-watchdog"),
    ({}, {"has_lease": False}, "this process has no lease", "ResponderJournalDown"),
    ({}, {"journal_took": 2.5}, "reading the journal took 2.5 s", "ResponderJournalDown"),
    ({}, {"mistake": "r.yml:4 polices: unknown key"}, "r.yml:4 polices: unknown key", "responder check"),
    ({"open": under_way("stuck", reason="drift")}, {}, "is stuck: drift", "responder close r1"),
    (
        {"open": under_way("awaiting_approval", reason="ask")},
        {},
        "awaits approval: ask",
        "responder approve r1 --plan abc",
    ),
    ({"open": under_way("accepted")}, {}, "has been queued for 2m", "responder status"),
    ({"open": under_way("accepted", accepted_at=ago(5))}, {}, "has been running for 5s", "responder watch r1"),
    ({"open": under_way("running")}, {}, "has been running for 2m", "responder watch r1"),
    ({"open": under_way("reverting")}, {}, "has been running for 2m", "responder watch r1"),
    (
        {"silenced": "Failing: silence s1 of bob: mine"},
        {},
        "silenced: Failing: silence s1 of bob",
        "amtool silence expire",
    ),
    ({"pinned": ("/srv/o.yaml keeps app at shop:1",)}, {}, "pinned: /srv/o.yaml keeps app at shop:1", "docker.md"),
    ({"checks": (check("unknown", reason="up has no data"),)}, {}, "did not answer: up has no data", "check --live"),
    (
        {"checks": (check(), check("fails", "traffic", "rate is 0"))},
        {},
        "there is no traffic: rate is 0",
        "configuration.md",
    ),
    ({"running": None, "target": None}, {}, "no deployment was reported", "responder deployed backend"),
    ({"running": deployment(status="bad")}, {}, "the running version 2.1 is bad", "responder mark backend 2.1 good"),
    ({"running": deployment(status="suspect")}, {}, "the running version 2.1 is suspect", "responder mark backend 2.1"),
    ({"target": None}, {}, "no version other than 2.1 is known good", "responder versions backend"),
    ({"protected": "2.1: CVE"}, {}, "no rollback can go past 2.1: CVE", "responder mark backend 2.1 --lift"),
    (
        {"cooldowns": (Cooldown(policy="p", until=NOW + timedelta(minutes=7)),)},
        {},
        "the cooldown of policy p lasts another 7m",
        "",
    ),
    ({"modes": {"p": "observe", "q": "observe"}}, {}, "all its policies are in observe mode", ""),
    (
        {"refused": (Denial(guard="cooldown", reason="cooling", n=3, last_at=ago(5)),)},
        {},
        "cooldown denied it 3 times: cooling",
        "responder explain --last --service backend",
    ),
]


@pytest.mark.parametrize(("fields", "facts", "fact", "see"), NOTES, ids=[note[2] for note in NOTES])
def test_warnings_name_a_fact_and_a_remedy(fields: dict[str, Any], facts: dict[str, Any], fact: str, see: str) -> None:
    made = report(service(**fields), **facts)
    (warned,) = [w for w in made.warnings if fact in w.fact]
    advice = [a for a in made.recommendations if a.because == f"{warned.about}: {warned.fact}"]
    assert (len(advice), bool(see)) in ((1, True), (0, False))
    assert all(see in a.see and a.do for a in advice)


@pytest.mark.parametrize(
    "fields",
    [
        {"cooldowns": (Cooldown(policy="p", until=ago(1)),)},
        {"modes": {"p": "observe", "q": "auto"}},
        {"modes": {}},
        {"last": rollback()},
    ],
)
def test_finished_and_healthy_items_have_no_warning(fields: dict[str, Any]) -> None:
    assert report(service(**fields)).warnings == []


FAILS = (check("fails", reason="up is 0"),)


@pytest.mark.parametrize(
    ("services", "do", "see"),
    [
        (
            (service(checks=FAILS),),
            "if 2.1, deployed 10m ago, is the cause, roll back to 2.0",
            "responder rollback backend",
        ),
        ((service(checks=FAILS, target=None),), "there is no rollback target", "responder explain"),
        ((service(checks=FAILS, running=None, target=None),), "there is no rollback target", "responder explain"),
        (
            (service(checks=FAILS, running=deployment(rolled_back_by="r0")),),
            "the last change was a rollback",
            "responder report r0",
        ),
        ((service(checks=FAILS, depends_on=("sick",)), SICK), "check sick first", "responder report"),
        (
            (service(checks=FAILS, depends_on=("fine",)), service(service="fine")),
            "roll back to 2.0",
            "responder rollback",
        ),
        (
            (service(checks=FAILS, depends_on=("sick",)), SICK.model_copy(update={"environment": "staging"})),
            "roll back to 2.0",
            "responder rollback",
        ),
    ],
)
def test_recommendations_for_an_unhealthy_service(services: tuple[ServiceFacts, ...], do: str, see: str) -> None:
    made = report(*services)
    (advice,) = [a for a in made.recommendations if a.because == "backend in production: it is unhealthy: up is 0"]
    assert do in advice.do
    assert see in advice.see


def test_an_unhealthy_service_with_an_open_rollback_is_watched() -> None:
    made = report(service(checks=FAILS, open=under_way("running")))
    assert [a.see for a in made.recommendations] == ["responder watch r1"]
    assert [(c.service, c.reason) for c in made.failed_checks] == [("backend", "up is 0")]


def test_as_markdown() -> None:
    made = report(service(checks=FAILS, last=rollback()), rollbacks=(rollback(),), stopped="stopped by alice: move")
    text = markdown(made)
    assert text.startswith("# Health report: unhealthy\n\nAs of 2026-11-23 22:00:00 UTC")
    assert "| backend | production | unhealthy | 2.1 | candidate |" in text
    assert "- **the responder**: automation is off: stopped by alice: move" in text
    assert "1. Re-enable it when the reason no longer applies: `responder close --all" in text
    assert "| r1 | backend | production | 2.1 → 2.0 | succeeded | down |" in text


def test_external_text_stays_text_in_markdown() -> None:
    evil = "x | y\n# Owned\n![i](http://evil) <img src=x> [a](b) `c` @everyone"
    made = report(service(checks=(check("fails", reason=evil),)), stopped=evil, rollbacks=(rollback(reason=evil),))
    text = markdown(made)
    for line in text.splitlines():
        assert not line.startswith("# Owned")
    for part in ("![i]", "<img", " [a](", "@everyone", "x | y"):
        assert part not in text

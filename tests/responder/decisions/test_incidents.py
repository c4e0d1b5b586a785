"""Incidents of several services, requests by an alert, alerts that only notify, and the ID of an incident."""

from __future__ import annotations

import hashlib

import pytest

from responder.backends.alertmanager.alerts import Alert
from responder.decisions.incidents import Incident, match_alerts, notify_only
from responder.decisions.policies import Policy, PolicyIndex
from tests.responder.examples import LABELS, NOW, ago, alert, incident, policy

NAMES = ("frontend", "backend", "zone")
TOGETHER = policy(roll_back=NAMES, together=True, preserve_logs=("backend", "frontend"))


def matched(alerts: list[Alert], *policies: Policy) -> list[Incident]:
    return match_alerts(alerts, PolicyIndex(policies), NOW, sender="am")[0]


# --- several services ---
def test_several_services_together_are_one_incident_of_the_first() -> None:
    found = matched([alert()], TOGETHER)
    assert [(case.action, case.service, case.together) for case in found] == [
        ("roll_back", "frontend", NAMES),
        ("preserve_logs", "backend", ()),
        ("preserve_logs", "frontend", ()),
    ]


def test_the_members_of_an_incident_are_its_services_and_only_the_first_has_the_requested_version() -> None:
    case = incident(service="frontend", together=NAMES, version="1.9", strategy="rolling")
    assert [(member.service, member.version, member.strategy) for member in case.members] == [
        ("frontend", "1.9", "rolling"),
        ("backend", None, None),
        ("zone", None, None),
    ]


# --- requests by an alert ---
def requests(*annotations: dict[str, str], **labels: str) -> list[Alert]:
    return [
        alert({**LABELS, **labels, "request": str(number)}, annotations=each) for number, each in enumerate(annotations)
    ]


@pytest.mark.parametrize(
    ("annotations", "reason"),
    [
        ([{}], ""),
        ([{}, {"reason": " errors "}], "errors"),
        ([{"reason": "  "}, {"reason": "errors"}], "errors"),
        ([{"reason": "errors"}, {"reason": "other"}], "errors"),
        ([{"reason": "e" * 1000}], "e" * 1000),
        ([{"reason": "e" * 1001}], "e" * 1000),
    ],
)
def test_the_reason_of_a_request(annotations: list[dict[str, str]], reason: str) -> None:
    (found,) = matched(requests(*annotations), policy(force=True))
    assert found.reason == reason


def test_a_request_names_version_and_strategy() -> None:
    (found,) = matched(requests({}, version="1.9", strategy="rolling"), policy(force=True))
    assert (found.forced, found.version, found.strategy) == (True, "1.9", "rolling")
    (found,) = matched(requests({}, version="1.9", strategy="rolling"), policy())
    assert (found.forced, found.version, found.strategy) == (False, None, None)


# --- each alert by itself ---
def test_alerts_that_are_not_matched_hide_no_other() -> None:
    resolved, other = alert(status="resolved"), alert({"alertname": "Other"})
    incidents, unmatched = match_alerts([resolved, other, alert()], PolicyIndex([policy()]), NOW, sender="am")
    assert [case.service for case in incidents] == ["backend"]
    assert unmatched == [other]


def test_an_alert_that_fired_twice_counts_twice() -> None:
    first, again = alert(starts_at=ago(60)), alert(starts_at=ago(5))
    (found,) = matched([first, again], policy())
    assert found.alerts == (first, again)


# --- alerts that only notify ---


def disk(name: str = "DiskFull", **labels: str) -> Alert:
    return alert({"alertname": name, **labels})


@pytest.fixture
def only() -> Policy:
    return Policy(name="only", match=['alertname=~"Disk.*"'], notify=("mail",))


def test_alerts_that_only_notify_are_grouped_by_name_service_and_environment(only: Policy) -> None:
    pods = [disk(service="backend", environment="production", pod=pod) for pod in "ab"]
    others = [
        disk("DiskSlow", service="backend", environment="production"),
        disk(service="frontend", environment="production"),
        disk(service="backend", environment="staging"),
        disk(service="backend"),
        disk(environment="production"),
    ]
    found = notify_only([*pods, *others], PolicyIndex([only]))
    assert [alerts for _, alerts in found] == [pods, *([other] for other in others)]
    assert {each.name for each, _ in found} == {"only"}


def test_a_group_belongs_to_one_policy(only: Policy) -> None:
    first = Policy(name="first", match=['pod=~".+"'], notify=("mail",))
    with_pod, without = disk(pod="a"), disk()
    assert notify_only([with_pod, without], PolicyIndex([first, only])) == [(first, [with_pod]), (only, [without])]


@pytest.mark.parametrize(
    "other",
    [disk(service="backend").model_copy(update={"status": "resolved"}), alert({"alertname": "Other"}), alert()],
    ids=["resolved", "of no policy", "of a policy that rolls back"],
)
def test_other_alerts_do_not_notify(other: Alert, only: Policy) -> None:
    firing = disk()
    assert notify_only([other, firing], PolicyIndex([policy(), only])) == [(only, [firing])]


# --- the ID ---
@pytest.mark.parametrize(("action", "suffix"), [("roll_back", []), ("preserve_logs", ["preserve_logs"])])
def test_the_id_is_stored_so_it_is_the_same_in_each_release(action: str, suffix: list[str]) -> None:
    firing = alert()
    parts = ["backend-down", "backend", "production", firing.fingerprint, firing.starts_at.isoformat(), *suffix]
    assert incident(action=action).id == hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


@pytest.mark.parametrize(("earlier", "later"), [("a", "b"), ("b", "a")])
def test_the_alert_that_started_first_gives_the_id(earlier: str, later: str) -> None:
    first, second = alert(fingerprint=earlier), alert(fingerprint=later, starts_at=ago(10))
    assert incident(alerts=(second, first)).id == incident(alerts=(first,)).id


def test_of_alerts_that_started_together_the_order_in_the_body_does_not_matter() -> None:
    first, second = alert(fingerprint="a"), alert(fingerprint="b")
    assert incident(alerts=(first, second)).id == incident(alerts=(second, first)).id


def test_a_title_of_three_alerts_names_them_all() -> None:
    alerts = tuple(alert({"alertname": name}) for name in "CBA")
    assert incident(alerts=alerts).title == "A, B, C on backend in production"

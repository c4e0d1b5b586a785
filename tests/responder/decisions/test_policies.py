"""Each alert is matched by itself: the first policy that matches its labels takes it, whatever else is in the body."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from responder.backends.alertmanager.alerts import Alert
from responder.backends.alertmanager.matchers import all_match
from responder.backends.alertmanager.webhook import read_body
from responder.decisions.incidents import Incident, match_alerts
from responder.decisions.policies import BY_HAND, Policy, PolicyIndex
from tests.responder.examples import (
    LABELS,
    NOW,
    ago,
    alert,
    as_bytes,
    by_hand,
    incident,
    policy,
    policy_set,
    sent_alert,
    sent_body,
    service,
)

OTHER = {"alertname": "FrontendDown", "service": "frontend", "environment": "production"}
BY_LABEL = policy(name="by-label", match=['alertname=~".+Down"'], roll_back={"label": "service"})


def found(alerts: list[Alert], *policies: Policy) -> list[tuple[str, str, str, int]]:
    incidents, _ = match_alerts(alerts, PolicyIndex(policies), NOW, sender="am")
    return [(i.policy.name, i.service, i.environment, len(i.alerts)) for i in incidents]


def test_the_first_match_wins() -> None:
    second = policy(name="second")
    assert found([alert()], policy(), second) == [("backend-down", "backend", "production", 1)]
    assert found([alert()], second, policy()) == [("second", "backend", "production", 1)]


def test_each_alert_finds_its_own_policy() -> None:
    assert found([alert(), alert(OTHER)], policy(), BY_LABEL) == [
        ("backend-down", "backend", "production", 1),
        ("by-label", "frontend", "production", 1),
    ]


def test_common_labels_and_the_group_status_are_ignored() -> None:
    body = sent_body(
        sent_alert({"alertname": "Other"}),
        commonLabels=LABELS,
        groupLabels=LABELS,
        commonAnnotations={"alertname": "BackendDown"},
    )
    incidents, unwanted = match_alerts(read_body(as_bytes(body), NOW).alerts, PolicyIndex([policy()]), NOW, sender="am")
    assert incidents == []
    assert [a.name for a in unwanted] == ["Other"]


def test_resolved_alerts_open_nothing() -> None:
    firing, resolved = alert(), alert(OTHER, status="resolved")
    incidents, unwanted = match_alerts([firing, resolved], PolicyIndex([BY_LABEL]), NOW, sender="am")
    assert [i.service for i in incidents] == ["backend"]
    assert unwanted == []


def test_alerts_of_one_policy_service_and_environment_are_one_incident() -> None:
    pods = [alert({**LABELS, "pod": f"p{i}"}) for i in range(3)]
    elsewhere = alert({**LABELS, "environment": "staging"})
    assert found([*pods, elsewhere], policy()) == [
        ("backend-down", "backend", "production", 3),
        ("backend-down", "backend", "staging", 1),
    ]


def test_a_policy_with_several_services_opens_one_incident_each() -> None:
    both = policy(roll_back=("backend", "frontend"))
    assert [entry[1] for entry in found([alert()], both)] == ["backend", "frontend"]


def test_a_service_named_twice_is_rolled_back_once() -> None:
    (only,), _ = match_alerts([alert()], PolicyIndex([policy(roll_back=("backend", "backend"))]), NOW, sender="am")
    assert len(only.alerts) == 1


def test_the_same_alert_twice_in_a_body_is_one_alert() -> None:
    (only,), _ = match_alerts([alert(), alert()], PolicyIndex([policy()]), NOW, sender="am")
    assert len(only.alerts) == 1


def test_a_label_that_names_no_service_is_reported() -> None:
    nameless = alert({"alertname": "BackendDown"})
    (opened,), _ = match_alerts([nameless], PolicyIndex([BY_LABEL]), NOW, sender="am")
    assert (opened.service, opened.environment) == ("", "")
    assert policy_set(BY_LABEL).service(opened.service, opened.environment) == (
        None,
        "the alert does not name a service",
    )


def test_the_incident_keeps_its_sender_and_the_number_of_truncated_alerts() -> None:
    (opened,), _ = match_alerts([alert()], PolicyIndex([policy()]), NOW, sender="am-1", truncated=4)
    assert (opened.requested_by, opened.truncated_alerts, opened.received_at, opened.forced) == ("am-1", 4, NOW, False)


def test_without_policies_there_are_no_incidents() -> None:
    assert match_alerts([alert()], PolicyIndex([]), NOW, sender="am") == ([], [alert()])


# --- configured services ---
TWO = (service(), service(environment="staging"), service("frontend"))


@pytest.mark.parametrize(
    ("name", "environment", "found_in", "problem"),
    [
        ("backend", "production", "production", ""),
        ("backend", "staging", "staging", ""),
        ("frontend", "", "production", ""),
        ("backend", "", None, "no environment is named, and backend is configured in production, staging"),
        ("backend", "test", None, "backend is not configured in the environment 'test'"),
        ("frontend", "staging", None, "frontend is not configured in the environment 'staging'"),
        ("nobody", "production", None, "no service 'nobody' is configured"),
        ("", "production", None, "the alert does not name a service"),
        ("../../etc", "", None, "no service '../../etc' is configured"),
    ],
)
def test_a_label_can_only_select_configured_services(
    name: str, environment: str, found_in: str | None, problem: str
) -> None:
    configured, why = policy_set(services=TWO).service(name, environment)
    assert (configured.environment if configured else None, why) == (found_in, problem)


def test_a_policy_by_name_and_the_default_for_manual_rollbacks() -> None:
    assert policy_set().policy("backend-down").name == "backend-down"
    assert policy_set().policy("gone") is BY_HAND


def test_an_existing_stop_file_stops_automation(tmp_path: Path) -> None:
    file = tmp_path / "stop"
    stopping = policy_set(stop_file=file)
    assert stopping.stop_file_says() == ""
    file.touch()
    assert stopping.stop_file_says() == f"the stop file {file} exists"
    file.unlink()
    assert stopping.stop_file_says() == ""
    assert policy_set().stop_file_says() == ""


# --- the incident ---
def test_repeated_alerts_have_the_same_incident_key() -> None:
    assert incident().id == incident(received_at=ago(-600), requested_by="other").id


def test_an_alert_that_joins_later_keeps_the_incident_key() -> None:
    joined = alert({**LABELS, "pod": "p"}, starts_at=ago(10))
    assert incident(alerts=(alert(), joined)).id == incident().id == incident(alerts=(joined, alert())).id


@pytest.mark.parametrize(
    "other",
    [
        incident(service="frontend"),
        incident(environment="staging"),
        incident(policy=policy(name="other")),
        incident(alerts=(alert(starts_at=ago(59)),)),
        incident(alerts=(alert({**LABELS, "pod": "p"}),)),
        by_hand(),
    ],
)
def test_other_trouble_has_another_incident_key(other: Incident) -> None:
    assert other.id != incident().id


def test_two_manual_requests_are_two_incidents() -> None:
    assert by_hand().id != by_hand(received_at=ago(1)).id


@pytest.mark.parametrize(
    ("case", "title"),
    [
        (incident(), "BackendDown on backend in production"),
        (incident(alerts=(alert(), alert({**LABELS, "pod": "p"}))), "BackendDown on backend in production"),
        (
            incident(alerts=tuple(alert({"alertname": name}) for name in "DCBA")),
            "A, B, C … on backend in production",
        ),
        (by_hand(), "errors after 2.1"),
    ],
)
def test_the_title_says_what_happened(case: Incident, title: str) -> None:
    assert case.title == title


# --- valid policies ---
def test_a_policy_only_observes_by_default() -> None:
    assert Policy(name="p", match=['a="b"'], roll_back=("backend",)).mode == "observe"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"match": []}, "at least 1 item"),
        ({"match": ["nonsense"]}, "is not a matcher"),
        ({"roll_back": ()}, "is empty; name at least one service"),
        ({"preserve_logs": ()}, "is empty; name at least one service"),
        ({"roll_back": None, "mode": "auto"}, "has no effect: set one of roll_back, preserve_logs"),
        ({"roll_back": None, "preserve_logs": ("backend",)}, "has no `roll_back`, so mode would have no effect"),
        ({"roll_back": {"label": ""}}, "at least 1 character"),
        ({"mode": "yes"}, "'observe', 'approve' or 'auto'"),
        ({"verify": {"for": 61.0, "within": 60.0}}, "no rollback could be verified"),
        ({"verify": {"within": 0.0}}, "greater than 0"),
        ({"approve_within": 0.0}, "greater than 0"),
        ({"on_stop": "run"}, "'revert' or 'hold'"),
        ({"name": "With Spaces"}, "pattern"),
        ({"cooldwn": "5m"}, "Extra inputs"),
    ],
)
def test_an_invalid_policy_is_rejected(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        policy(**wrong)


@given(
    matchers=st.lists(
        st.lists(st.sampled_from(['a="1"', 'a="2"', 'b="1"', 'b=""', 'a!="1"', 'b=~"1|2"', 'c="3"']), min_size=1),
        max_size=8,
    ),
    labels=st.dictionaries(st.sampled_from("abcd"), st.sampled_from("123")),
)
def test_the_index_finds_what_trying_each_policy_finds(matchers: list[list[str]], labels: dict[str, str]) -> None:
    policies = [policy(name=f"p{number}", match=match) for number, match in enumerate(matchers)]
    tried = next((p for p in policies if all_match(p.match, labels)), None)
    assert PolicyIndex(policies).first(labels) is tried

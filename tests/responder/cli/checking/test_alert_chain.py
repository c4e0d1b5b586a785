"""Reports rules that offer a rollback but reach no policy."""

from __future__ import annotations

from typing import Any

import pytest

from responder.cli.checking.alert_chain import expected_alerts, unmatched_rules, unrecorded_rules
from responder.decisions.limits import Watchdog
from responder.decisions.policies import Policy


def _policy(*match: str) -> Policy:
    return Policy.model_validate({"name": "one", "match": match, "roll_back": {"label": "service"}})


def _groups(**labels: str) -> list[dict[str, Any]]:
    rules = [
        {"type": "alerting", "name": "HighErrorRate", "labels": {"rollback": "true", **labels}},
        {"type": "alerting", "name": "ScrapeTargetDown", "labels": {"severity": "critical"}},
        {"type": "recording", "name": "a:b", "labels": {"rollback": "true"}},
    ]
    return [{"name": "errors", "rules": rules}]


@pytest.mark.parametrize(
    ("match", "labels", "reached"),
    [
        (['alertname="ServiceFailing"'], {}, False),
        (['rollback="true"'], {}, True),
        (['rollback="true"', 'environment="production"'], {}, True),  # the series may have that label
        (['rollback="true"', 'environment="production"'], {"environment": "test"}, False),
        (['rollback="true"', 'environment="production"'], {"environment": "{{ $labels.env }}"}, True),
        (['alertname=~"High.*|Service.*"'], {}, True),
    ],
)
def test_rules_that_match_no_policy(match: list[str], labels: dict[str, str], reached: bool) -> None:
    found = list(unmatched_rules(_groups(**labels), [_policy(*match)]))
    assert [problem.target for problem in found] == ([] if reached else ["rule HighErrorRate in group errors"])


def _recorded(name: str) -> dict[str, Any]:
    names = ("service_environment:trouble:now", "alertname:trouble:evaluation_timestamp")
    rules = [{"type": "recording", "name": record, "labels": {"alertname": name}} for record in names]
    return {"name": "now", "rules": rules}


@pytest.mark.parametrize(
    ("recorded", "query", "more", "message"),
    [
        ("HighErrorRate", "x", {}, ""),
        ("Other", 'service_environment:trouble{alertname="HighErrorRate"} and on () y', {}, "load the alert rules"),
        ("Other", "rate(errors[5m]) > 1", {}, "policy one has no `expression`"),
        ("Other", "rate(errors[5m]) > 1", {"expression": "errors > 0"}, ""),
        ("Other", "rate(errors[5m]) > 1", {"force": True}, ""),
    ],
)
def test_rules_without_recorded_trouble(recorded: str, query: str, more: dict[str, Any], message: str) -> None:
    (group,) = _groups()
    group["rules"][0]["query"] = query
    policy = Policy.model_validate({**_policy('rollback="true"').model_dump(exclude_unset=True), **more})
    found = [str(problem) for problem in unrecorded_rules([group, _recorded(recorded)], [policy])]
    assert (bool(found), message in "".join(found)) == (bool(message), True)


@pytest.mark.parametrize("kept", ["service_environment:trouble:now", "alertname:trouble:evaluation_timestamp"])
def test_one_of_the_two_recordings_is_not_enough(kept: str) -> None:
    recorded = _recorded("HighErrorRate")
    (missing,) = [rule["name"] for rule in recorded["rules"] if rule["name"] != kept]
    recorded["rules"] = [rule for rule in recorded["rules"] if rule["name"] == kept]
    (found,) = unrecorded_rules([*_groups(), recorded], [_policy('rollback="true"')])
    assert found.found == f"has no recording rule {missing}"


ONLY_NOTIFIES = {"name": "notify", "notify": ["slack"]}


@pytest.mark.parametrize(("match", "reached"), [('alertname="HighErrorRate"', False), ('team="a"', True)])
def test_a_policy_that_only_notifies_hides_later_ones_if_it_always_matches(match: str, reached: bool) -> None:
    first = Policy.model_validate({**ONLY_NOTIFIES, "match": [match]})
    assert bool(list(unmatched_rules(_groups(), [first, _policy('rollback="true"')]))) is not reached


@pytest.mark.parametrize(
    ("policies", "watchdog", "expected"),
    [
        ([_policy('alertname="Other"')], None, []),
        ([_policy('rollback="true"')], Watchdog(), ["RollbackAutomationArmed", "HighErrorRate"]),
        (
            [_policy('alertname=~"Rollback.*"'), _policy('rollback="true"')],
            None,
            ["RollbackRequested", "HighErrorRate"],
        ),
    ],
)
def test_alerts_that_must_arrive(policies: list[Policy], watchdog: Watchdog | None, expected: list[str]) -> None:
    assert [labels["alertname"] for labels in expected_alerts(_groups(), policies, watchdog)] == expected

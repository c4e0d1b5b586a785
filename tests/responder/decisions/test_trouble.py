"""Trouble counts only while it is visible in the last scrapes; missing data is never evidence."""

from __future__ import annotations

from typing import Any

import pytest

from responder.backends.connections import Connections
from responder.backends.prometheus.client import Sample
from responder.decisions.trouble import Recordings, query_trouble, questions
from tests.responder.examples import LABELS, alert, incident, policy, policy_set, service
from tests.responder.outside import FakePrometheus

CLOCK = 1_000_000.0
OTHER = {**LABELS, "service": "frontend"}
UP = 'probe_success{service="backend"}'
TRAFFIC = 'rate(requests{service="backend"}[1m])'


def sample(question: str, value: float = CLOCK, **labels: str) -> Sample:
    return Sample(labels={**labels, "question": question}, value=value)


def now(at: float = CLOCK, **labels: str) -> Sample:
    return sample("now", at, **{**LABELS, **labels})


def evaluated(at: float = CLOCK, **labels: str) -> Sample:
    return sample("evaluated", at, **{"alertname": "BackendDown", **labels})


@pytest.mark.parametrize(
    ("samples", "state", "reason"),
    [
        ([now(), evaluated()], "visible", "BackendDown: visible in the last scrapes (queried at "),
        ([now()], "visible", "visible in the last scrapes"),
        ([now(CLOCK - 90), evaluated(CLOCK - 90)], "visible", "visible in the last scrapes"),
        ([now(CLOCK - 0.5), evaluated()], "visible", "visible in the last scrapes"),
        ([evaluated(CLOCK - 90)], "gone", ""),
        ([now(CLOCK - 89), evaluated(CLOCK - 89)], "visible", "visible in the last scrapes"),
        ([now(CLOCK - 15), evaluated(CLOCK - 30)], "visible", "visible in the last scrapes"),
        ([now(replica="a"), evaluated(replica="a"), evaluated(CLOCK - 7, replica="b")], "visible", "visible"),
        ([now(CLOCK - 7, replica="b"), evaluated(replica="a"), evaluated(CLOCK - 7, replica="b")], "visible", ""),
        ([evaluated()], "gone", "BackendDown still fires, but no trouble is visible in the last scrapes of backend"),
        ([evaluated(), sample("recorded", 0.3, **LABELS)], "gone", "no trouble is visible"),
        ([evaluated(), now(service="frontend")], "gone", "no trouble is visible"),
        ([evaluated(), now(environment="staging")], "gone", "no trouble is visible"),
        ([evaluated(), now(alertname="Other")], "gone", "no trouble is visible"),
        # As after a restart of Prometheus: still found for five minutes, but evaluated again since.
        ([now(CLOCK - 20), evaluated()], "gone", "no trouble is visible"),
        ([now(CLOCK - 91), evaluated(CLOCK - 91)], "unknown", "evaluated its rule 1m31s ago, longer than 1m30s"),
        ([now(CLOCK - 91)], "unknown", "evaluated its rule 1m31s ago"),
        ([evaluated(CLOCK - 3600)], "unknown", "evaluated its rule 1h ago"),
        ([sample("recorded", 0.3, **LABELS)], "unknown", "load the alert rules of this release"),
    ],
)
def test_recorded_trouble(samples: list[Sample], state: str, reason: str) -> None:
    found = Recordings([*samples, sample("clock")]).of([alert()], "backend")
    assert found
    assert (found.state, reason in found.reason) == (state, True), found.reason


@pytest.mark.parametrize("samples", [[], [now(alertname="Other"), evaluated(alertname="Other")]])
def test_alerts_without_a_recording(samples: list[Sample]) -> None:
    assert Recordings([*samples, sample("clock")]).of([alert()], "backend") is None


def test_an_answer_without_a_clock_is_no_evidence() -> None:
    found = Recordings([evaluated()]).of([alert()], "backend")
    assert found
    assert found.state != "visible"


def test_one_of_several_alerts_is_enough() -> None:
    other = alert({**LABELS, "alertname": "Other"})
    found = Recordings([evaluated(), now(), evaluated(alertname="Other"), sample("clock")]).of([other, alert()], "b")
    assert found
    assert found.state == "visible"


HEALTHY, SICK, NO_DATA = [({}, "1")], [({}, "0")], []


@pytest.mark.parametrize(
    ("health", "traffic", "state", "reason"),
    [
        (SICK, SICK, "visible", f"{UP} is 0, expected at least 1"),
        (SICK, NO_DATA, "visible", f"{UP} is 0"),
        (HEALTHY, SICK, "visible", f"{TRAFFIC} is 0, expected above 0"),
        (HEALTHY, HEALTHY, "gone", "all health and traffic checks of backend hold"),
        (HEALTHY, NO_DATA, "unknown", "has no data"),
        (NO_DATA, NO_DATA, "unknown", "cannot tell whether BackendDown persists"),
    ],
)
async def test_without_a_recording_the_checks_of_the_service_decide(
    health: list[Any], traffic: list[Any], state: str, reason: str, connections: Connections, prometheus: FakePrometheus
) -> None:
    prometheus.vectors |= {UP: health, TRAFFIC: traffic}
    by = policy_set(services=(service(traffic_checks=({"promql": TRAFFIC, "above": 0},)),))
    found = await query_trouble(incident(), by, connections)
    assert (found.state, reason in found.reason) == (state, True), found.reason


async def test_the_denial_names_the_remedy(connections: Connections, prometheus: FakePrometheus) -> None:
    prometheus.vectors[UP] = HEALTHY
    found = await query_trouble(incident(), policy_set(), connections)
    assert found.reason.endswith("add an `expression` to policy backend-down")


async def test_the_trouble_of_any_service_counts_in_a_rollback_of_several(
    connections: Connections, prometheus: FakePrometheus
) -> None:
    prometheus.vectors |= {UP: HEALTHY, 'probe_success{service="frontend"}': SICK}
    by = policy_set(services=(service(), service("frontend")))
    assert (await query_trouble(incident(together=("backend", "frontend")), by, connections)).state == "visible"
    assert (await query_trouble(incident(), by, connections)).state == "gone"


@pytest.mark.parametrize(
    ("vector", "state"),
    [
        ([({}, "3")], "visible"),
        ([(LABELS, "3")], "visible"),
        ([(OTHER, "3"), (LABELS, "3")], "visible"),
        ([(OTHER, "3")], "gone"),
        ([], "gone"),
    ],
)
async def test_an_expression_takes_precedence_over_checks(
    vector: list[Any], state: str, connections: Connections, prometheus: FakePrometheus
) -> None:
    prometheus.vectors |= {"errors > 1": vector, UP: SICK}
    case = incident(policy=policy(expression="errors > 1"))
    found = await query_trouble(case, policy_set(case.policy), connections)
    assert (found.state, "`expression` of policy backend-down" in found.reason) == (state, True)


async def test_a_recording_takes_precedence_over_the_expression(
    connections: Connections, prometheus: FakePrometheus
) -> None:
    prometheus.sees(LABELS)
    case = incident(policy=policy(expression="errors > 1"))
    assert (await query_trouble(case, policy_set(case.policy), connections)).state == "visible"


@pytest.mark.parametrize("expression", ["", "errors > 1"])
async def test_no_answer_is_no_evidence(expression: str, connections: Connections, prometheus: FakePrometheus) -> None:
    prometheus.status = 500
    case = incident(policy=policy(expression=expression))
    found = await query_trouble(case, policy_set(case.policy), connections)
    assert (found.state, "cannot tell whether BackendDown persists" in found.reason) == ("unknown", True)


async def test_it_is_one_query(connections: Connections, prometheus: FakePrometheus) -> None:
    prometheus.sees(LABELS)
    await query_trouble(incident(), policy_set(), connections)
    [request] = prometheus.requests
    assert request.query["query"] == " or ".join(questions(LABELS))


@pytest.mark.parametrize(
    ("recorded", "health", "state", "of_rule"),
    [
        (True, HEALTHY, "visible", True),
        (True, NO_DATA, "visible", True),
        (False, HEALTHY, "gone", True),
        (False, SICK, "visible", False),
        (False, NO_DATA, "unknown", False),
    ],
)
async def test_alerts_with_and_without_a_recording_in_the_same_incident(
    recorded: bool,
    health: list[Any],
    state: str,
    of_rule: bool,
    connections: Connections,
    prometheus: FakePrometheus,
) -> None:
    other = alert({**LABELS, "alertname": "Other"})
    prometheus.vectors[UP] = health
    (prometheus.sees if recorded else prometheus.evaluates)(LABELS)
    found = await query_trouble(incident(alerts=(alert(), other)), policy_set(), connections)
    assert found.state == state
    assert ("in the last scrapes" in found.reason) is of_rule
    assert of_rule or "BackendDown" not in found.reason

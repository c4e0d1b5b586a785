"""At the end of a rollback its trouble must be gone: visible trouble fails, and a stale evaluation is inconclusive."""

from __future__ import annotations

from typing import Any, cast

import pytest

from responder.backends.prometheus.client import Prometheus, Sample
from responder.backends.prometheus.trouble_check import FRESH, TroubleCheck, selector
from tests.responder.examples import LABELS, alert

OTHER = {**LABELS, "service": "frontend"}
VISIBLE = Sample(labels=LABELS, value=1.0)


class Answers:
    """A Prometheus that answers everything with the same samples."""

    def __init__(self, *samples: Sample) -> None:
        self.samples, self.queries = list(samples), list[str]()

    async def query(self, promql: str) -> list[Sample]:
        self.queries.append(promql)
        return self.samples


def evaluated(age: float) -> Sample:
    return Sample(labels={"alertname": "BackendDown"}, value=age)


async def held(prometheus: Answers, expression: str = "") -> tuple[bool, bool, str]:
    check = TroubleCheck.of((alert(), alert()), expression, "backend", "production")
    assert check
    found = await check.holds(cast(Prometheus, prometheus))
    return found.holds, found.answered, found.reason


@pytest.mark.parametrize(
    ("samples", "holds", "answered", "reason"),
    [
        ([evaluated(15)], True, True, "BackendDown: not visible in the last scrapes"),
        ([VISIBLE, evaluated(15)], False, True, "BackendDown: still visible in the last scrapes"),
        ([VISIBLE], False, True, "still visible"),
        ([evaluated(FRESH)], True, True, "not visible"),
        ([evaluated(FRESH + 1)], False, False, "evaluated the rule of BackendDown 1m31s ago, longer than 1m30s"),
        ([], True, True, "not visible"),  # a user's own rule: `resolved_within` applies instead
    ],
)
async def test_recorded_trouble_is_read(samples: list[Sample], holds: bool, answered: bool, reason: str) -> None:
    prometheus = Answers(*samples)
    found = await held(prometheus)
    assert (found[:2], reason in found[2]) == ((holds, answered), True), found
    (query,) = prometheus.queries
    same = 'alertname="BackendDown",service="backend",environment="production"'
    assert query.count(f"service_environment:trouble:now{{{same}}}") == 1, "alerts with the same labels are one trouble"


@pytest.mark.parametrize(
    ("labels", "holds"), [(None, True), ({}, False), (LABELS, False), (OTHER, True), ({"service": "backend"}, False)]
)
async def test_an_expression_replaces_recorded_trouble(labels: Any, holds: bool) -> None:
    prometheus = Answers(*([] if labels is None else [Sample(labels=labels, value=3.0)]))
    found = await held(prometheus, "errors > 1")
    assert found[0] is holds, found
    assert prometheus.queries == ["errors > 1"]


def test_a_rollback_without_alerts_has_no_trouble_check() -> None:
    assert TroubleCheck.of((), "errors > 1", "backend", "production") is None


def test_a_selector_quotes_what_promql_needs_quoted() -> None:
    labels = {"service": 'a"b\\c\nd', "my.label": "ü", "größe": ""}
    assert selector("ALERTS", labels) == r"""ALERTS{service="a\"b\\c\nd","my.label"="ü","größe"=""}"""

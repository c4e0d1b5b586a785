"""A PromQL check holds only if Prometheus answered with data within the bounds."""

from __future__ import annotations

from typing import Any

import pytest

from responder.backends.connections import Connections
from responder.backends.prometheus.client import Prometheus
from responder.backends.prometheus.promql_check import PromqlCheck
from responder.rollback.gateway import Gateway
from tests.responder.outside import FakePrometheus

BACKEND, FRONTEND = {"service": "backend"}, {"service": "frontend"}


@pytest.mark.parametrize(
    ("bounds", "vector", "holds", "reason"),
    [
        ({"at_least": 1.0}, [({}, "1")], True, "q is 1, expected at least 1"),
        ({"at_least": 1.0}, [({}, "0.999")], False, "q is 0.999, expected at least 1"),
        ({"at_most": 1.0}, [({}, "1")], True, "expected at most 1"),
        ({"at_most": 1.0}, [({}, "1.001")], False, "q is 1.001"),
        ({"above": 1.0}, [({}, "1")], False, "expected above 1"),
        ({"above": 1.0}, [({}, "1.1")], True, ""),
        ({"below": 1.0}, [({}, "1")], False, "expected below 1"),
        ({"below": 1.0}, [({}, "0.9")], True, ""),
        ({"at_least": 0.0, "below": 0.05}, [({}, "0.01")], True, "at least 0 and below 0.05"),
        ({"at_least": 0.0, "below": 0.05}, [({}, "-0.01")], False, ""),
        ({"at_least": 1.0}, [], False, "q has no data"),
        ({"at_least": 0.0}, [({}, "NaN")], False, "q has no data"),
        ({"at_most": 10.0}, [({}, "NaN")], False, "q has no data"),
        ({"at_least": 1.0}, [({}, "+Inf")], True, ""),
        ({"at_most": 1.0}, [({}, "+Inf")], False, "q is inf"),
        # Every series must be within the bounds, and the wrong one is named.
        ({"at_least": 1.0}, [(BACKEND, "1"), (FRONTEND, "1")], True, ""),
        ({"at_least": 1.0}, [(BACKEND, "1"), (FRONTEND, "0")], False, "q is 0 (service=frontend), expected"),
        ({"at_least": 1.0}, [({"__name__": "up", **FRONTEND}, "0")], False, "q is 0 (service=frontend), expected"),
        # A series that is not a number is not within any bound.
        ({"at_least": 1.0}, [(BACKEND, "1"), (FRONTEND, "NaN")], False, "frontend"),
    ],
)
async def test_promql(
    bounds: dict[str, float],
    vector: list[tuple[dict[str, str], str]],
    holds: bool,
    reason: str,
    prometheus: FakePrometheus,
    connections: Connections,
) -> None:
    prometheus.vectors["q"] = vector
    finding = await PromqlCheck(promql="q", **bounds).holds(await connections.to(Prometheus))
    assert finding.holds is holds
    assert reason in finding.reason


async def test_a_scalar_is_one_sample(prometheus: FakePrometheus, connections: Connections) -> None:
    prometheus.results["scalar(q)"] = {"resultType": "scalar", "result": [1e9, "3"]}
    finding = await PromqlCheck(promql="scalar(q)", at_least=3.0).holds(await connections.to(Prometheus))
    assert (finding.holds, finding.reason) == (True, "scalar(q) is 3, expected at least 3")


@pytest.mark.parametrize(
    "result",
    [
        {"resultType": "matrix", "result": [{"metric": {}, "values": [[1e9, "1"], [1e9, "1"]]}]},
        {"resultType": "string", "result": [1e9, "healthy"]},
    ],
)
async def test_a_query_without_an_instant_vector_does_not_hold(
    result: dict[str, Any], prometheus: FakePrometheus, connections: Connections
) -> None:
    prometheus.results["up[5m]"] = result
    finding = await Gateway(connections).holds(PromqlCheck(promql="up[5m]", at_least=1.0))
    assert not finding.holds
    assert "up[5m]" in finding.reason


@pytest.mark.parametrize(
    ("status", "raw", "says"),
    [
        (400, b'{"status":"error","errorType":"bad_data","error":"parse error"}', "parse error"),
        (422, b'{"status":"error","errorType":"execution","error":"many-to-many"}', "many-to-many"),
        (500, b'{"status":"error","error":"tsdb is broken"}', "tsdb is broken"),
        (503, b"", "503"),
        (200, b"<html>a proxy</html>", "Prometheus at"),
        (200, b'{"status":"success"}', "Prometheus at"),
        (200, b"[]", "Prometheus at"),
    ],
)
async def test_an_error_of_prometheus_does_not_hold_and_is_reported(
    status: int, raw: bytes, says: str, prometheus: FakePrometheus, connections: Connections
) -> None:
    prometheus.status, prometheus.raw = status, raw
    finding = await Gateway(connections).holds(PromqlCheck(promql="up", at_least=1.0))
    assert not finding.holds
    assert says in finding.reason


async def test_a_hanging_prometheus_does_not_hold(prometheus: FakePrometheus, connections: Connections) -> None:
    prometheus.hangs = True
    finding = await Gateway(connections).holds(PromqlCheck(promql="up", at_least=1.0))
    assert not finding.holds
    assert "did not answer" in finding.reason


async def test_a_promql_check_without_prometheus_reports_the_missing_setting() -> None:
    finding = await Gateway(Connections()).holds(PromqlCheck(promql="up", at_least=1.0))
    assert (finding.holds, finding.reason) == (
        False,
        "Prometheus needs the URL of a server; configure prometheus",
    )

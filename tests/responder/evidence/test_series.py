"""The decisive queries, their values, and a plot."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from xml.etree import ElementTree

import pytest
from aiohttp import web

from responder.backends.connections import Connections
from responder.evidence.series import Query, expression_of, queries_of
from responder.evidence.settings import EvidenceSettings
from tests.responder.evidence.conftest import a_case, kept, unpacked
from tests.responder.examples import NOW, ago, alert, policy, service
from tests.responder.outside import FakePrometheus, many_series

LINK = "http://evil.example/graph?g0.expr=sum%28rate%28errors%5B1m%5D%29%29+%3E+1&g0.tab=1"


@pytest.mark.parametrize(
    ("url", "promql"),
    [
        (LINK, "sum(rate(errors[1m])) > 1"),
        ("/graph?g0.expr=up", "up"),
        ("", ""),
        ("http://x/graph", ""),
        ("http://grafana/alerting/abc/view", ""),
        ("http://[broken", ""),
        (f"/graph?g0.expr={'x' * 5000}", ""),
    ],
)
def test_the_query_in_a_prometheus_link_is_read(url: str, promql: str) -> None:
    assert expression_of(url) == promql


def test_each_query_is_listed_once_with_its_origin() -> None:
    two = [alert(generator_url=LINK), alert(generator_url=LINK), alert(generator_url="")]
    found = queries_of([service()], policy(expression="trouble"), two)
    assert found == [
        Query("policy", "trouble"),
        Query("alert BackendDown", "sum(rate(errors[1m])) > 1"),
        Query("health_checks[0]", 'probe_success{service="backend"}'),
    ]


def answer(request: web.Request) -> web.Response:
    start, end, step = (float(request.query[name].rstrip("s")) for name in ("start", "end", "step"))
    times = [start + n * step for n in range(int((end - start) / step) + 1)]
    series = [
        {
            "metric": {"__name__": "up", "instance": f"<{n}>"},
            "values": [[t, "NaN" if n == 2 else str(n)] for t in times],
        }
        for n in range(3)
    ]
    found = {"empty": [], "up": series}.get(request.query["query"])
    if found is None:
        return web.json_response({"status": "error", "error": "no"}, status=400)
    return web.json_response({"status": "success", "data": {"resultType": "matrix", "result": found}})


async def test_many_series_do_not_block_the_loop(
    directory: EvidenceSettings, around: Connections, prometheus: FakePrometheus
) -> None:
    await kept(a_case(id="first"), directory, around)  # one-time imports
    prometheus.raw = many_series(500)
    began = time.thread_time()
    manifest = await kept(a_case(queries=(Query("policy", "up"),)), directory, around)
    assert time.thread_time() - began < 0.15, "seconds that the loop worked for it; it was 0.3"
    assert [file.name[:15] for file in manifest.files] == ["alerts.json.gz", "series-1-policy", "series-1-policy"]


@pytest.mark.parametrize(("series", "step"), [(2000, 60), (6000, 300)])
async def test_many_series_have_fewer_points(
    directory: EvidenceSettings,
    around: Connections,
    prometheus: FakePrometheus,
    monkeypatch: pytest.MonkeyPatch,
    series: int,
    step: int,
) -> None:
    def answers(request: web.Request) -> web.Response:
        points = 1800 / float(request.query["step"])
        return web.Response(body=many_series(series, round(points)), content_type="application/json")

    monkeypatch.setattr(prometheus, "answer", answers)
    case = a_case(queries=(Query("policy", "up"),), onset=NOW)
    patient = directory.model_copy(update={"within": 600.0})
    manifest = await kept(case, patient, around, now=lambda: NOW)
    data = json.loads((await unpacked(manifest, patient, around))["series-1-policy.json"])
    assert (data["series_in_all"], len(data["series"]), data["step_seconds"]) == (series, 200, step)
    assert manifest.missing == ()


async def test_an_oversized_result_is_reported_as_missing(
    directory: EvidenceSettings, around: Connections, prometheus: FakePrometheus
) -> None:
    prometheus.raw = many_series(1000)
    manifest = await kept(a_case(queries=(Query("policy", "up"),)), directory, around)
    assert [(gap.origin, "the answer to 'up' exceeds" in gap.reason) for gap in manifest.missing] == [
        ("series of policy", True)
    ]


async def test_series_are_kept_as_data_and_as_a_plot(
    directory: EvidenceSettings, around: Connections, prometheus: FakePrometheus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prometheus, "answer", answer)
    queries = (Query("policy", "up"), Query("health_checks[0]", "empty"), Query("alert X", "wrong("))
    case = a_case(queries=queries, deployed_at=ago(600), version="2.1", onset=ago(300))
    manifest = await kept(case, directory, around, now=lambda: NOW)
    names = [file.name.partition(".")[0][:18] for file in manifest.files]
    assert names == ["alerts", "series-1-policy", "series-1-policy", "series-2-health_ch"]
    inside = await unpacked(manifest, directory, around)
    data = json.loads(inside["series-1-policy.json"])
    assert (data["from"], data["to"]) == ((NOW - timedelta(minutes=35)).isoformat(), NOW.isoformat())
    assert data["marks"] == {"deployment of 2.1": ago(600).isoformat(), "onset": ago(300).isoformat()}
    assert [series["points"][-1][1] for series in data["series"]] == ["0.0", "1.0", "nan"]
    picture = ElementTree.fromstring(inside["series-1-policy.svg"])
    words = " ".join(picture.itertext())
    assert "deployment of 2.1 21:50:00" in words
    assert "onset 21:55:00" in words
    assert "up{instance=<1>}" in words
    (lost,) = manifest.missing
    assert (lost.origin, "refuses" in lost.reason) == ("series of alert X", True)
    sent = [request.query["query"] for request in prometheus.requests]
    assert sorted(sent) == ["empty", "up", "wrong("], "only the configured Prometheus was queried"

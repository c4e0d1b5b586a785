"""Answers of Prometheus are samples, refusals are final, and a missing answer is reported within the deadline."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretStr

from responder.backends.prometheus.client import Prometheus, PrometheusSettings, TooMuch
from responder.errors import StepFailed, Unavailable
from tests.responder.outside import FakePrometheus


@pytest.fixture
async def client(prometheus: FakePrometheus) -> AsyncIterator[Prometheus]:
    made = await Prometheus.connect(PrometheusSettings(url=prometheus.url, token=SecretStr("sesame"), timeout=60.0))
    yield made
    await made.close()


async def test_a_vector(client: Prometheus, prometheus: FakePrometheus) -> None:
    prometheus.vectors["up"] = [({"job": "a"}, "1"), ({"job": "b"}, "0.5"), ({"job": "c"}, "-Inf")]
    assert [(s.labels, s.value) for s in await client.query("up")] == [
        ({"job": "a"}, 1.0),
        ({"job": "b"}, 0.5),
        ({"job": "c"}, float("-inf")),
    ]
    assert prometheus.requests[0].path == "/api/v1/query"
    assert prometheus.requests[0].headers["Authorization"] == "Bearer sesame"
    assert "time" not in prometheus.requests[0].query


async def test_no_data_is_an_empty_list(client: Prometheus) -> None:
    assert await client.query("absent_series") == []


async def test_a_scalar(client: Prometheus, prometheus: FakePrometheus) -> None:
    prometheus.results["1"] = {"resultType": "scalar", "result": [1e9, "1"]}
    assert [(s.labels, s.value) for s in await client.query("1")] == [({}, 1.0)]


async def test_a_query_at_a_time(client: Prometheus, prometheus: FakePrometheus) -> None:
    await client.query("up", at=datetime(2026, 11, 23, 22, tzinfo=UTC))
    assert float(prometheus.requests[0].query["time"]) == 1795471200.0


async def test_a_query_is_sent_unchanged(client: Prometheus, prometheus: FakePrometheus) -> None:
    promql = 'sum(rate(x{a=~"ä+&b=c"}[5m])) / 2 # %20'
    await client.query(promql)
    assert prometheus.requests[0].query["query"] == promql


@pytest.mark.parametrize("status", [400, 422])
async def test_a_refused_query_fails(status: int, client: Prometheus, prometheus: FakePrometheus) -> None:
    prometheus.status, prometheus.raw = status, b'{"status":"error","error":"unexpected end of input"}'
    with pytest.raises(StepFailed, match=r"refuses 'sum\(': .*unexpected end of input"):
        await client.query("sum(")


@pytest.mark.parametrize("status", [429, 500, 502, 503])
async def test_server_errors_of_prometheus_are_unavailable(
    status: int, client: Prometheus, prometheus: FakePrometheus
) -> None:
    prometheus.status, prometheus.raw = status, b"not now" * 1000
    with pytest.raises(Unavailable, match=str(status)) as caught:
        await client.query("up")
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("raw", [b"", b"<html>", b"{", b"[]", b"null", b"{}", b'{"data": {}}', b'{"data": null}'])
async def test_an_unexpected_body_is_unavailable(raw: bytes, client: Prometheus, prometheus: FakePrometheus) -> None:
    prometheus.raw = raw
    with pytest.raises(Unavailable, match="Prometheus at"):
        await client.query("up")


@pytest.mark.parametrize(
    "result",
    [
        {"resultType": "matrix", "result": [{"metric": {}, "values": [[1e9, "1"]]}]},
        {"resultType": "string", "result": [1e9, "text"]},
    ],
)
async def test_a_result_other_than_an_instant_vector_fails(
    result: dict[str, Any], client: Prometheus, prometheus: FakePrometheus
) -> None:
    prometheus.results["q"] = result
    with pytest.raises(StepFailed, match="q"):
        await client.query("q")


async def test_a_range(client: Prometheus, prometheus: FakePrometheus) -> None:
    start, end = datetime(2026, 11, 23, 22, tzinfo=UTC), datetime(2026, 11, 23, 22, 5, tzinfo=UTC)
    values = [[start.timestamp() + 15 * n, text] for n, text in enumerate(("1", "0.5", "NaN"))]
    prometheus.results["up"] = {"resultType": "matrix", "result": [{"metric": {"job": "a"}, "values": values}]}
    (series,) = await client.range("up", start, end, 15)
    assert (series.labels, [at for at, _ in series.points][:1]) == ({"job": "a"}, [start.timestamp()])
    assert str([value for _, value in series.points]) == "[1.0, 0.5, nan]"
    request = prometheus.requests[0]
    assert request.path == "/api/v1/query_range"
    assert (float(request.query["start"]), float(request.query["end"])) == (start.timestamp(), end.timestamp())
    assert request.query["step"] == "15", "as a number: a duration knows no fractions"


@pytest.mark.parametrize(
    ("status", "error"), [(400, StepFailed), (422, StepFailed), (429, Unavailable), (503, Unavailable)]
)
async def test_errors_of_a_range_query_are_raised(
    client: Prometheus, prometheus: FakePrometheus, status: int, error: type[Exception]
) -> None:
    prometheus.status = status
    now = datetime.now(UTC)
    with pytest.raises(error):
        await client.range("up", now, now, 15)


async def test_a_result_other_than_a_range_vector_fails(client: Prometheus, prometheus: FakePrometheus) -> None:
    prometheus.vectors["up"] = [({}, "1")]
    with pytest.raises(StepFailed, match="does not return a range vector"):
        await client.range("up", datetime.now(UTC), datetime.now(UTC), 15)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("over", "taken"), [(0, True), (1, False)])
async def test_an_answer_above_the_limit_is_too_much(
    prometheus: FakePrometheus, over: int, taken: bool, packed: bool
) -> None:
    """Of any kind: reading all of it would block everything else for seconds."""
    vector = b'{"data": {"resultType": "vector", "result": [{"metric": {}, "value": [1, "1"]}]}}'
    prometheus.raw = vector + b" " * ((4 << 20) - len(vector) + over)
    prometheus.packed = packed
    client = await Prometheus.connect(PrometheusSettings(url=prometheus.url, timeout=10.0))
    if taken:
        assert len(await client.query("up")) == 1
    else:
        with pytest.raises(TooMuch, match=r"the answer to 'up' exceeds 4\.2 MB: aggregate it, for example with sum by"):
            await client.query("up")
        with pytest.raises(TooMuch, match="aggregate it"):
            await client.range("up", datetime.now(UTC), datetime.now(UTC), 15)
        prometheus.raw = vector
        assert len(await client.query("up")) == 1, "the next one is not disturbed"
    await client.close()


async def test_a_truncated_answer_is_unavailable(prometheus: FakePrometheus) -> None:
    prometheus.raw, prometheus.broken_off = b"{" + b" " * 1000, True
    client = await Prometheus.connect(PrometheusSettings(url=prometheus.url, timeout=10.0))
    with pytest.raises(Unavailable, match="did not answer"):
        await client.query("up")
    await client.close()


async def test_hanging_queries_do_not_block_the_next_one(prometheus: FakePrometheus) -> None:
    client = await Prometheus.connect(PrometheusSettings(url=prometheus.url, timeout=3.0))
    prometheus.hangs = True
    for answer in await asyncio.gather(*(client.query("up") for _ in range(5)), return_exceptions=True):
        assert isinstance(answer, Unavailable)
        assert "did not answer" in str(answer)
    prometheus.hangs = False
    prometheus.vectors["up"] = [({}, "1")]
    assert len(await client.query("up")) == 1
    await client.close()


async def test_a_refused_connection_is_unavailable(free_port: int) -> None:
    client = await Prometheus.connect(PrometheusSettings(url=f"http://127.0.0.1:{free_port}", timeout=60.0))
    with pytest.raises(Unavailable, match="did not answer: Connection refused"):
        await client.query("up")
    await client.close()


async def test_closing_leaves_no_connection_open(prometheus: FakePrometheus) -> None:
    """Each reload opens a new client: connections left open by old ones would accumulate."""
    client = await Prometheus.connect(PrometheusSettings(url=prometheus.url, timeout=60.0))
    await client.query("up")
    transport = prometheus.requests[0].transport
    await client.close()
    del client
    gc.collect()
    for _ in range(50):
        if transport is None or transport.is_closing():
            return
        await _turn()
    pytest.fail("the connection is still open")


async def _turn() -> None:
    import asyncio

    await asyncio.sleep(0.001)

"""A check holds only where something answered and said so: no data, no answer and nonsense never count as health."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from responder.backends.connections import Connections
from responder.backends.http.client import Http
from responder.backends.http.http_check import HttpCheck
from responder.backends.prometheus.client import Prometheus
from responder.backends.prometheus.promql_check import PromqlCheck
from responder.backends.registries import AnyCheck
from responder.rollback.gateway import Gateway
from tests.responder.outside import FakePrometheus, serving


@pytest.mark.parametrize("namespace", ["", "shop/pods/x", "../kube-system", "Shop", "a b"])
def test_a_namespace_becomes_a_part_of_a_url_and_is_a_name(namespace: str) -> None:
    with pytest.raises(ValidationError, match="should match pattern"):
        TypeAdapter(AnyCheck).validate_python({"pods": {"namespace": namespace, "labels": {"app": "x"}}})


BACKEND, FRONTEND = {"service": "backend"}, {"service": "frontend"}


@pytest.mark.parametrize(
    ("bounds", "vector", "holds", "reason"),
    [
        ({"at_least": 1.0}, [({}, "1")], True, "q is 1, wanted at least 1"),
        ({"at_least": 1.0}, [({}, "0.999")], False, "q is 0.999, wanted at least 1"),
        ({"at_most": 1.0}, [({}, "1")], True, "wanted at most 1"),
        ({"at_most": 1.0}, [({}, "1.001")], False, "q is 1.001"),
        ({"above": 1.0}, [({}, "1")], False, "wanted above 1"),
        ({"above": 1.0}, [({}, "1.1")], True, ""),
        ({"below": 1.0}, [({}, "1")], False, "wanted below 1"),
        ({"below": 1.0}, [({}, "0.9")], True, ""),
        ({"at_least": 0.0, "below": 0.05}, [({}, "0.01")], True, "at least 0 and below 0.05"),
        ({"at_least": 0.0, "below": 0.05}, [({}, "-0.01")], False, ""),
        ({"at_least": 1.0}, [], False, "q has no data"),
        ({"at_least": 0.0}, [({}, "NaN")], False, "q has no data"),
        ({"at_most": 10.0}, [({}, "NaN")], False, "q has no data"),
        ({"at_least": 1.0}, [({}, "+Inf")], True, ""),
        ({"at_most": 1.0}, [({}, "+Inf")], False, "q is inf"),
        # Every series has to be within the bounds, and the wrong one is named.
        ({"at_least": 1.0}, [(BACKEND, "1"), (FRONTEND, "1")], True, ""),
        ({"at_least": 1.0}, [(BACKEND, "1"), (FRONTEND, "0")], False, "q is 0 (service=frontend), wanted"),
        ({"at_least": 1.0}, [({"__name__": "up", **FRONTEND}, "0")], False, "q is 0 (service=frontend), wanted"),
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
    assert (finding.holds, finding.reason) == (True, "scalar(q) is 3, wanted at least 3")


@pytest.mark.parametrize(
    "result",
    [
        {"resultType": "matrix", "result": [{"metric": {}, "values": [[1e9, "1"], [1e9, "1"]]}]},
        {"resultType": "string", "result": [1e9, "healthy"]},
    ],
)
async def test_a_query_that_gives_no_instant_vector_does_not_hold(
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
async def test_an_error_of_prometheus_does_not_hold_and_is_told(
    status: int, raw: bytes, says: str, prometheus: FakePrometheus, connections: Connections
) -> None:
    prometheus.status, prometheus.raw = status, raw
    finding = await Gateway(connections).holds(PromqlCheck(promql="up", at_least=1.0))
    assert not finding.holds
    assert says in finding.reason


async def test_a_prometheus_that_hangs_does_not_hold(prometheus: FakePrometheus, connections: Connections) -> None:
    prometheus.hangs = True
    finding = await Gateway(connections).holds(PromqlCheck(promql="up", at_least=1.0))
    assert not finding.holds
    assert "did not answer" in finding.reason


async def test_without_a_prometheus_a_promql_check_says_what_is_missing() -> None:
    finding = await Gateway(Connections()).holds(PromqlCheck(promql="up", at_least=1.0))
    assert (finding.holds, finding.reason) == (
        False,
        "a PromQL check needs `prometheus: {url: ...}` in the configuration",
    )


# --- HTTP ---
@pytest.fixture
async def site() -> AsyncIterator[str]:
    never = asyncio.Event()

    async def well(request: web.Request) -> web.Response:
        return web.json_response({"version": "2.1", "db": {"ok": True, "n": None}, "list": [1]})

    async def ill(request: web.Request) -> web.Response:
        return web.Response(status=503, text="starting")

    async def away(request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "/well"})

    async def slow(request: web.Request) -> web.Response:
        await never.wait()
        return web.Response()

    async def trickle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"status: ")
        await never.wait()
        return response

    async def echo(request: web.Request) -> web.Response:
        return web.Response(text=request.headers.get("X-Who", "nobody"))

    async def huge(request: web.Request) -> web.Response:
        return web.Response(body=b"x" * (2 << 20) + b"needle")

    async def binary(request: web.Request) -> web.Response:
        return web.Response(body=b"\xff\xfe ok \x00")

    async with serving(
        well=well, ill=ill, away=away, slow=slow, trickle=trickle, echo=echo, huge=huge, binary=binary
    ) as url:
        yield url
        never.set()


@pytest.mark.parametrize(
    ("path", "options", "holds", "reason"),
    [
        ("well", {}, True, "answered 200"),
        ("ill", {}, False, "answered 503, wanted 200"),
        ("ill", {"status": 503}, True, "answered 503"),
        ("ill", {"status": 503, "body": "start"}, True, ""),
        ("nowhere", {}, False, "answered 404, wanted 200"),
        ("away", {}, False, "answered 302, wanted 200"),
        ("away", {"status": 302}, True, ""),
        ("well", {"body": '"ok": true'}, True, ""),
        ("well", {"body": r"version.+2\.\d"}, True, ""),
        ("well", {"body": "^version"}, False, "its body does not contain '^version'"),
        ("well", {"fields": {"version": "2.1"}}, True, ""),
        ("well", {"fields": {"version": "2.0"}}, False, 'version="2.1", wanted "2.0"'),
        ("well", {"fields": {"db.ok": True}}, True, ""),
        ("well", {"fields": {"db.ok": True, "db.no": 1}}, False, "without db.no, wanted 1"),
        ("well", {"fields": {"version.deeper": "x"}}, False, "without version.deeper"),
        ("ill", {"status": 503, "fields": {"a": 1}}, False, "its body is not JSON"),
        ("echo", {"headers": {"X-Who": "responder"}, "body": "^responder$"}, True, ""),
        ("binary", {"body": "ok"}, True, ""),
        ("huge", {"body": "x"}, True, ""),
        ("huge", {"body": "needle"}, False, "does not contain"),
    ],
)
async def test_http(path: str, options: dict[str, Any], holds: bool, reason: str, site: str) -> None:
    http = await Http.connect(None)
    try:
        finding = await HttpCheck(http=f"{site}/{path}", **options).holds(http)
    finally:
        await http.close()
    assert finding.holds is holds, finding.reason
    assert reason in finding.reason


@pytest.mark.parametrize("wanted", [1, "true", None, False])
async def test_a_field_is_compared_as_json_not_as_python(wanted: Any, site: str) -> None:
    """`True == 1` in Python; in JSON a service that says `true` did not say `1`."""
    http = await Http.connect(None)
    try:
        finding = await HttpCheck(http=f"{site}/well", fields={"db.ok": wanted}).holds(http)
    finally:
        await http.close()
    assert not finding.holds


async def test_a_field_that_is_missing_is_not_null(site: str) -> None:
    http = await Http.connect(None)
    try:
        present = await HttpCheck(http=f"{site}/well", fields={"db.n": None}).holds(http)
        missing = await HttpCheck(http=f"{site}/well", fields={"db.gone": None}).holds(http)
    finally:
        await http.close()
    assert (present.holds, missing.holds) == (True, False)


@pytest.mark.parametrize("path", ["slow", "trickle"])
async def test_an_answer_that_does_not_come_in_time_does_not_hold(path: str, site: str) -> None:
    http = await Http.connect(None)
    try:
        finding = await HttpCheck(http=f"{site}/{path}", timeout=0.05).holds(http)
        assert (finding.holds, finding.answered) == (False, True), "its silence is its answer"
        assert "did not answer within 0.05 s" in finding.reason
    finally:
        await http.close()


async def test_where_nobody_listens_nothing_holds(free_port: int) -> None:
    connections = Connections()
    finding = await Gateway(connections).holds(HttpCheck(http=f"http://127.0.0.1:{free_port}/"))
    await connections.close()
    assert not finding.holds
    assert str(free_port) in finding.reason


# --- what may be written ---
CHECK: TypeAdapter[Any] = TypeAdapter(AnyCheck)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{}", "a check has one of the keys promql, http"),
        ('{"quel": "select 1"}', "a check has one of the keys promql, http"),
        ("5", "a check has one of the keys promql, http"),
        ('{"promql": "up"}', "needs at least one of at_least"),
        ('{"promql": "", "at_least": 1}', "at least 1 character"),
        ('{"promql": "up", "at_least": "many"}', "number"),
        ('{"promql": "up", "at_least": 1, "http": "http://x"}', "Extra inputs"),
        ('{"http": "ftp://x"}', "URL scheme"),
        ('{"http": "nonsense"}', "URL"),
        ('{"http": "http://x", "body": "("}', "is not a regular expression of RE2"),
        ('{"http": "http://x", "timeout": 5}', "needs a unit"),
        ('{"http": "http://x", "timeout": "0s"}', "greater than 0"),
        ('{"http": "http://x", "status": 99}', "100"),
    ],
)
def test_a_check_that_makes_no_sense_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        CHECK.validate_json(text)


@pytest.mark.parametrize(
    "text", ['{"promql": "up", "at_least": 1, "below": 5}', '{"http": "http://x/health", "fields": {"a.b": [1, null]}}']
)
def test_a_check_reads_back_as_itself(text: str) -> None:
    check = CHECK.validate_json(text)
    assert CHECK.validate_json(CHECK.dump_json(check)) == check

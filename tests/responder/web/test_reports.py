"""A report shows the current state: every check is evaluated in time, and no answer is never healthy."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree import ElementTree

import pytest

from responder.rollback.events import Closed, Planned, StepCompleted, StepStarted
from responder.services import rollbacks
from tests.responder.examples import accepted, change, gate, plan, policy, policy_set, sent_body, service
from tests.responder.outside import many_series
from tests.responder.web.conftest import ResponderServer

UP = 'probe_success{service="backend"}'


def now() -> datetime:
    return datetime.now(UTC)


async def a_rollback(responder: ResponderServer, **other: Any) -> None:
    """One that succeeded."""
    await responder.good_then_new()
    began = now() - timedelta(seconds=30)
    fields = {"at": began, "received_at": began, "onset_at": began - timedelta(seconds=20), "alerts": (), **other}
    await responder.journal.transaction(rollbacks.accept, "r1", accepted(**fields))
    await responder.append(
        "r1",
        Planned(at=began, plan=plan(change("2.1", "2.0"), gate(otherwise="freeze"))),
        StepStarted(at=began, step=0, title="one"),
        StepCompleted(at=began, step=0, changed=True),
        StepStarted(at=began, step=1, title="two"),
        StepCompleted(at=now(), step=1, changed=False),
        Closed(at=now(), outcome="succeeded", by="responder", reason=""),
    )


async def test_every_check_is_evaluated_now(responder: ResponderServer) -> None:
    await responder.good_then_new()
    responder.prometheus.vectors[UP] = [({}, "0")]
    status, body = await responder.get("/api/v1/report")
    assert (status, body["status"]) == (200, "unhealthy")
    assert [(c["check"], c["reason"]) for c in body["failed_checks"]] == [(UP, f"{UP} is 0, expected at least 1")]
    assert (body["services"][0]["version"], body["services"][0]["rollback_target"]) == ("2.1", "2.0")
    assert any("roll back to 2.0" in advice["do"] for advice in body["recommendations"])
    responder.prometheus.vectors[UP] = [({}, "1")]
    _, body = await responder.get("/api/v1/report")
    assert (body["services"][0]["status"], body["failed_checks"]) == ("healthy", [])


@pytest.mark.parametrize("how", ["no data", "refused", "error", "hangs"])
async def test_no_answer_is_unknown(responder: ResponderServer, how: str) -> None:
    await responder.good_then_new()
    responder.prometheus.status = {"refused": 400, "error": 500}.get(how, 200)
    responder.prometheus.hangs = how == "hangs"
    _, body = await responder.get("/api/v1/report")
    assert (body["services"][0]["status"], body["failed_checks"]) == ("unknown", [])
    assert [c["check"] for c in body["unanswered_checks"]] == [UP]
    assert UP in body["unanswered_checks"][0]["reason"]


async def test_a_service_without_answers_to_users_is_unhealthy_and_not_unknown(
    responder: ResponderServer, free_port: int
) -> None:
    sick = service(health_checks=({"http": f"http://127.0.0.1:{free_port}/"},))
    responder.policy_set = policy_set(services=(sick,))
    _, body = await responder.get("/api/v1/report")
    assert (body["status"], len(body["failed_checks"])) == ("unhealthy", 1)


async def test_many_hanging_checks_take_no_longer_than_one(responder: ResponderServer) -> None:
    hanging = [{"promql": f"up_{n}", "at_least": 1.0} for n in range(30)]
    responder.policy_set = policy_set(
        services=(service(health_checks=tuple(hanging), traffic_checks=({"promql": "rate", "above": 0.0},)),)
    )
    responder.prometheus.hangs = True
    loop = asyncio.get_running_loop()
    began = loop.time()
    _, body = await responder.get("/api/v1/report")
    assert loop.time() - began < 4, "their timeout is 1 s"
    assert len(body["unanswered_checks"]) == 31
    assert body["unanswered_checks"][-1]["reason"].startswith("rate: ")


async def test_scope_and_time(responder: ResponderServer) -> None:
    await a_rollback(responder)
    responder.policy_set = policy_set(services=(*responder.policy_set.services, service("frontend", "staging")))
    _, body = await responder.get("/api/v1/report?since=1h")
    assert [s["service"] for s in body["services"]] == ["backend", "frontend"]
    assert [r["id"] for r in body["rollbacks"]] == ["r1"]
    _, body = await responder.get("/api/v1/report?since=5s&service=backend&environment=production")
    assert ([s["service"] for s in body["services"]], body["rollbacks"]) == (["backend"], [])
    _, body = await responder.get("/api/v1/report?environment=staging")
    assert ([s["service"] for s in body["services"]], body["rollbacks"]) == (["frontend"], [])
    for query, status in (("service=no", 404), ("since=yesterday", 400), ("format=pdf", 400)):
        assert (await responder.get(f"/api/v1/report?{query}"))[0] == status


async def test_denials_and_blocking_facts_are_included(responder: ResponderServer) -> None:
    await responder.deployed("2.1", 60)
    await responder.post("/api/v1/alerts", sent_body())
    await responder.post("/api/v1/executions/all/stop", {"reason": "moving house"})
    responder.mistakes.append("responder.yml:4 polices: unknown key")
    _, body = await responder.get("/api/v1/report")
    facts = [w["fact"] for w in body["warnings"]]
    for part in (
        "moving house",
        "polices: unknown key",
        "has no lease",
        "target_version denied it once",
        "no rollback target",
    ):
        assert any(part in fact for fact in facts), part


async def test_as_markdown(responder: ResponderServer) -> None:
    async with responder.client.get("/api/v1/report?format=markdown") as response:
        assert response.content_type == "text/markdown"
        assert (await response.text()).startswith("# Health report: unknown\n")


async def test_the_draft_of_a_post_mortem(responder: ResponderServer) -> None:
    await a_rollback(responder)
    status, body = await responder.get("/api/v1/executions/r1/report")
    assert (status, body["outcome"], body["window"]["onset_at"] is not None) == (200, "succeeded", True)
    assert body["window"]["deployed_at"] is not None
    assert body["timeline"][0]["what"] == "deployed"
    assert any("2.1, which is bad" in left for left in body["left_to_do"])
    async with responder.client.get("/api/v1/executions/r1/report?format=markdown") as response:
        text = await response.text()
    assert text.startswith("# Post-mortem draft: backend in production, r1\n")
    assert "](<plot>)" in text, "relative to the same URL"
    assert (await responder.get("/api/v1/executions/none/report"))[0] == 404
    assert (await responder.get("/api/v1/executions/r1/report?format=pdf"))[0] == 400


async def test_the_guard_results_of_its_decision_are_included(responder: ResponderServer) -> None:
    await responder.good_then_new()
    _, decided = await responder.post("/api/v1/rollbacks", {"service": "backend", "reason": "slow", "by": "alice"})
    _, body = await responder.get(f"/api/v1/executions/{decided['execution']}/report")
    assert [v["guard"] for v in body["guard_results"]][-1] == "mode"
    assert body["requested_by"] == "alice"


def matrix(responder: ResponderServer, query: str, *labels: dict[str, str]) -> None:
    points = [[now().timestamp() - 30 + n, str(n % 2)] for n in range(30)]
    result = [{"metric": metric, "values": points} for metric in labels]
    responder.prometheus.results[query] = {"resultType": "matrix", "result": result}


@pytest.mark.parametrize("expression", ["", "errors > 1"])
async def test_the_plot_shows_the_decisive_series(responder: ResponderServer, expression: str) -> None:
    """The policy's expression, or else the service's own check; for this service only."""
    if expression:
        responder.policy_set = policy_set(policy(expression=expression), services=responder.policy_set.services)
    await a_rollback(responder)
    query = expression or UP
    matrix(
        responder,
        query,
        {"service": "backend", "instance": "a"},
        {"service": "backend", "instance": "b"},
        {"service": "x"},
    )
    async with responder.client.get("/api/v1/executions/r1/plot") as response:
        assert (response.status, response.content_type) == (200, "image/svg+xml")
        svg = ElementTree.fromstring(await response.text())
    texts = [element.text for element in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert {query, 'instance="a"', 'instance="b"', "onset", "deployed 2.1", "acted", "verified"} <= set(texts)
    query_range = responder.prometheus.requests[-1]
    assert query_range.path == "/api/v1/query_range"
    assert float(query_range.query["end"]) > float(query_range.query["start"])


async def test_drawing_blocks_no_other_request(responder: ResponderServer) -> None:
    await a_rollback(responder)
    await responder.get("/api/v1/executions/r1/report")
    responder.prometheus.raw = many_series(20)
    began = time.thread_time()
    async with responder.client.get("/api/v1/executions/r1/plot") as response:
        assert "(the first 8 of 20 series)" in await response.text()
    assert time.thread_time() - began < 0.06, "seconds of the event loop; it was 0.1"


async def test_a_missing_plot_is_explained(responder: ResponderServer) -> None:
    await a_rollback(responder)
    responder.prometheus.status = 500
    status, body = await responder.get("/api/v1/executions/r1/plot")
    assert (status, "Prometheus at" in body["error"]) == (502, True)
    responder.policy_set = policy_set(services=(service(health_checks=({"http": "http://127.0.0.1:1/"},)),))
    status, body = await responder.get("/api/v1/executions/r1/plot")
    assert (status, body["error"].startswith("no plot: ")) == (404, True)
    assert (await responder.get("/api/v1/executions/none/plot"))[0] == 404

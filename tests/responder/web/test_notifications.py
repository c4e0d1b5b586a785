"""Notifications and links: a hanging channel delays no rollback, pending ones are shown, a link stops one rollback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web

from responder.decisions.policies import Policy, Verify
from responder.journal import executions
from responder.notify import Dispatcher, Notify
from responder.rollback.events import Closed, EvidenceCollected, Planned, StepFailed, StepStarted
from responder.services import rollbacks
from tests.responder.examples import NOW, accepted, plan, policy, sent_alert, sent_body
from tests.responder.notify.peers import TOKEN, Github, Sink
from tests.responder.web.conftest import SECRETS, ResponderServer
from tests.responder.web.links.test_approval import held, page

OPERATOR = {"Authorization": f"Bearer {SECRETS['operate']}"}


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    async with Sink().up() as up:
        yield up


def hook(sink: Sink, **other: Any) -> Notify:
    channel = {"url": f"{sink.url}/hook", "secret": "0123456789abcdef", **other}
    return Notify.model_validate({"webhook": channel})


@contextlib.asynccontextmanager
async def dispatching(responder: ResponderServer, notify: Notify) -> AsyncIterator[Dispatcher]:
    dispatcher = Dispatcher(
        responder.journal, lambda: notify, lambda: responder.policy_set, links=responder.links.both, poll=0.02
    )
    task = asyncio.create_task(dispatcher.run())
    yield dispatcher
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await dispatcher.close()


async def seconds_of_a_rollback(responder: ResponderServer) -> float:
    """How long a complete rollback took."""
    (shop := responder.shop / "current").unlink(missing_ok=True)
    shop.symlink_to("releases/2.1")
    responder.prometheus.vectors['probe_success{service="backend"}'] = [({}, "1")]
    quick = policy(verify=Verify(bake=0.0, within=5.0))
    responder.policy_set = responder.policy_set.model_copy(update={"policies": (quick,)})
    await responder.good_then_new()
    working = asyncio.create_task(responder.worker.run())
    try:
        while not responder.worker.has_lease:
            await asyncio.sleep(0.01)
        began = asyncio.get_running_loop().time()
        status, body = await responder.post("/api/v1/rollbacks", {"service": "backend", "reason": "errors"})
        assert status == 202, body
        async with asyncio.timeout(60):
            while (found := await responder.journal.read(executions.load, body["execution"])).state != "closed":
                await asyncio.sleep(0.01)
        assert found.outcome == "succeeded"
        return asyncio.get_running_loop().time() - began
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


async def test_a_hanging_channel_delays_no_rollback(responder: ResponderServer, sink: Sink) -> None:
    sink.trouble = ["hang"] * 100
    async with dispatching(responder, hook(sink, timeout=60.0)):
        took = await seconds_of_a_rollback(responder)
        assert took < 50, "the channel hangs for a minute"
        while not sink.requests:
            await asyncio.sleep(0.01)
        assert sink.taken == []
        _, body = await responder.get("/api/v1/status")
        (late,) = body["notifications"]
        assert (late["channel"], late["pending"] > 0) == ("webhook", True)


async def test_pending_notifications_are_shown(responder: ResponderServer, sink: Sink) -> None:
    sink.trouble = [web.Response(status=500, text="down")] * 50
    now = datetime.now(UTC)
    await responder.good_then_new()
    execution = await responder.journal.transaction(rollbacks.accept, executions.new_id(now), accepted(at=now))
    async with dispatching(responder, hook(sink)) as dispatcher:
        async with asyncio.timeout(60):
            while not (shown := (await responder.get("/api/v1/status"))[1]["notifications"]) or not shown[0]["error"]:
                dispatcher.wake()
                await asyncio.sleep(0.02)
    assert (shown[0]["pending"], "answered 500: down" in shown[0]["error"]) == (1, True)
    assert 'responder_notifications_pending{channel="webhook"} 1.0' in await responder.series()
    _, body = await responder.get(f"/api/v1/executions/{execution.id}")
    (message,) = body["messages"]
    assert (message["channel"], message["stage"], message["state"]) == ("webhook", "accepted", "pending")
    assert "answered 500: down" in message["error"]


async def test_the_issue_names_the_location_of_the_evidence(responder: ResponderServer) -> None:
    now = datetime.now(UTC)
    await responder.good_then_new()
    execution = await responder.journal.transaction(rollbacks.accept, executions.new_id(now), accepted(at=now))
    kept = EvidenceCollected(at=now, note="4 files, 12 kB", location="file:///var/lib/responder/evidence/d/e", files=4)
    await responder.append(execution.id, kept)
    async with Github().up() as github:
        token = {"repository": "shop/backend", "token": TOKEN, "api_url": f"{github.url}/api/v3"}
        async with dispatching(responder, Notify.model_validate({"github": token})) as dispatcher, asyncio.timeout(60):
            while not github.issues:
                dispatcher.wake()
                await asyncio.sleep(0.02)
            await responder.append(execution.id, StepFailed(at=now, reason="no plan could be made"))
            await responder.append(execution.id, Closed(at=now, outcome="failed", by="responder", reason=""))
            while "Evidence" not in github.issues[41]["body"]:
                dispatcher.wake()
                await asyncio.sleep(0.02)
    body = github.issues[41]["body"].replace("\\", "")
    assert f"responder evidence {execution.id}" in body
    assert "var/lib/responder/evidence/d/e" in body


async def test_a_policy_that_only_notifies(responder: ResponderServer, sink: Sink) -> None:
    only = Policy.model_validate({"name": "tell", "match": ['alertname="Overload"'], "notify": ["webhook"]})
    responder.policy_set = responder.policy_set.model_copy(update={"policies": (only,)})
    labels = {"alertname": "Overload", "service": "backend", "environment": "production"}
    async with dispatching(responder, hook(sink)) as dispatcher, asyncio.timeout(60):
        for _ in range(2):
            status, body = await responder.post(
                "/api/v1/alerts", sent_body(sent_alert(labels, startsAt=NOW.isoformat()))
            )
            assert (status, [row["result"] for row in body["decisions"]]) == (202, ["notify"])
        while not sink.taken:
            dispatcher.wake()
            await asyncio.sleep(0.02)
    (taken,) = [json.loads(raw) for _, raw in sink.taken]
    assert (taken["stage"], taken["title"]) == ("alert", "Alert: Overload on backend in production")
    _, body = await responder.post("/api/v1/explain", sent_body(sent_alert(labels)))
    assert [row["policy"] for row in body["notify_only"]] == ["tell"]


# the stop page


def stop_link(responder: ResponderServer, execution: Any) -> str:
    found = responder.links.stop_link(execution)
    assert found is not None
    return str(found[found.index("/stop/") :])


async def stop_requested(responder: ResponderServer, name: str) -> Any:
    async def find(tx: Any) -> Any:
        return await tx.first("stop_request", id=name)

    return await responder.journal.read(find)


async def test_only_the_button_of_the_page_stops(guarded_responder: ResponderServer) -> None:
    execution_id = await held(guarded_responder)
    link = stop_link(guarded_responder, await guarded_responder.journal.read(executions.load, execution_id))
    for _ in range(2):
        status, text = await page(guarded_responder, "GET", link)
        assert (status, "2.1 → 2.0" in text, "nothing has changed yet: backend stays on 2.1" in text) == (
            200,
            True,
            True,
        )
    assert await stop_requested(guarded_responder, execution_id) is None
    assert (await page(guarded_responder, "POST", link, data={"name": " "}))[0] == 409
    status, text = await page(guarded_responder, "POST", link, data={"name": "<b>eve</b>", "reason": "no <i>"})
    assert (status, "<b>" in text) == (200, False)
    stop = await stop_requested(guarded_responder, execution_id)
    assert (stop["stop_requested_by"], stop["stop_reason"]) == ("<b>eve</b> (by link)", "no <i>")


@pytest.mark.parametrize("part", ["until", "signature", "id"])
async def test_a_modified_stop_link_is_rejected(guarded_responder: ResponderServer, part: str) -> None:
    execution_id, other = await held(guarded_responder), await held(guarded_responder, service="frontend")
    link = stop_link(guarded_responder, await guarded_responder.journal.read(executions.load, execution_id))
    forged = {
        "until": re.sub(r"until=\d+", "until=99999999999", link),
        "signature": re.sub(r"signature=\w+", "signature=%C3%A9", link),
        "id": link.replace(execution_id, other),
    }[part]
    for method, data in (("GET", None), ("POST", {"name": "eve"})):
        status, text = await page(guarded_responder, method, forged, data=data)
        assert (status in (403, 409), "not valid" in text) == (True, True)
    assert (
        await stop_requested(guarded_responder, execution_id) is await stop_requested(guarded_responder, other) is None
    )


async def test_an_approval_link_does_not_stop(guarded_responder: ResponderServer) -> None:
    execution = await guarded_responder.journal.read(executions.load, await held(guarded_responder))
    approve = guarded_responder.links.approve_link(execution)
    assert approve is not None
    as_stop = approve[approve.index("/approve/") :].replace("/approve/", "/stop/")
    assert (await page(guarded_responder, "POST", as_stop, data={"name": "eve"}))[0] == 409


async def test_a_closed_execution_cannot_be_stopped(guarded_responder: ResponderServer) -> None:
    now = datetime.now(UTC)
    begun = await guarded_responder.journal.transaction(rollbacks.accept, "e-1", accepted(at=now))
    link = stop_link(guarded_responder, begun)
    await guarded_responder.append("e-1", Planned(at=now, plan=plan()), StepStarted(at=now, step=0, title="x"))
    after = await guarded_responder.append("e-1", StepFailed(at=now, step=0, reason="down"))
    assert guarded_responder.links.stop_link(after) is None
    status, text = await page(guarded_responder, "GET", link)
    assert (status, "is reverting: it can no longer be stopped" in text) == (403, True)


async def test_without_tokens_links_are_rejected(responder: ResponderServer) -> None:
    begun = await responder.journal.transaction(rollbacks.accept, "e-1", accepted(at=datetime.now(UTC)))
    assert responder.links.both(begun) == ("", "")
    assert (await page(responder, "GET", "/stop/e-1?until=99999999999&signature="))[0] == 403

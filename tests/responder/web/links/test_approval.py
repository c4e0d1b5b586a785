"""A link is the permission for one plan: it shows the plan, and only the button approves."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from responder.journal import executions
from responder.rollback.events import ApprovalRequested, Planned, StopRequested
from responder.rollback.plan import Mitigation, Plan
from responder.services import rollbacks
from tests.responder.examples import accepted, change, gate, plan
from tests.responder.web.conftest import SECRETS, ResponderServer

APPROVER = {"Authorization": f"Bearer {SECRETS['approve']}"}
READER = {"Authorization": f"Bearer {SECRETS['read']}"}


async def held(responder: ResponderServer, *, waits: float = 600, with_plan: Plan | None = None, **fields: Any) -> str:
    now = datetime.now(UTC)
    execution = await responder.journal.transaction(
        rollbacks.accept, executions.new_id(now), accepted(at=now, **fields)
    )
    await responder.append(
        execution.id,
        Planned(at=now, plan=with_plan or plan()),
        ApprovalRequested(at=now, reason="frozen", until=now + timedelta(seconds=waits)),
    )
    return execution.id


async def link_of(responder: ResponderServer, execution: str) -> str:
    """The page as a client with the scopes approve and read sees it."""
    found = responder.links.approve_link(await responder.journal.read(executions.load, execution))
    assert found is not None
    return str(found.partition("/approve/")[1] + found.partition("/approve/")[2])


async def page(responder: ResponderServer, method: str, link: str, **how: Any) -> tuple[int, str]:
    async with responder.client.request(method, link, **how) as response:
        assert response.headers["X-Frame-Options"] == "DENY"
        return response.status, await response.text()


async def state(responder: ResponderServer, execution: str) -> tuple[str, str]:
    found = await responder.journal.read(executions.load, execution)
    return found.state, found.reason


async def test_opening_the_link_approves_nothing_and_the_button_does(guarded_responder: ResponderServer) -> None:
    execution_id = await held(guarded_responder)
    guarded_responder.still_fires()
    link = await link_of(guarded_responder, execution_id)
    for _ in range(2):
        status, text = await page(guarded_responder, "GET", link)
        assert '<meta name=viewport content="width=device-width' in text, "it is read on phones"
        assert (status, "2.1 → 2.0" in text, "current release of /srv/backend" in text) == (200, True, True)
    assert await state(guarded_responder, execution_id) == ("awaiting_approval", "frozen")
    status, text = await page(guarded_responder, "POST", link, data={"name": "alice"})
    assert (status, "that alice approved it" in text) == (200, True)
    assert await state(guarded_responder, execution_id) == ("running", "approved by alice (by link)")
    status, text = await page(guarded_responder, "POST", link, data={"name": "bob"})
    assert (status, "no longer awaits approval" in text) == (409, True)


async def test_the_name_is_required(guarded_responder: ResponderServer) -> None:
    execution_id = await held(guarded_responder)
    status, _ = await page(
        guarded_responder, "POST", await link_of(guarded_responder, execution_id), data={"name": "  "}
    )
    assert (status, (await state(guarded_responder, execution_id))[0]) == (409, "awaiting_approval")


@pytest.mark.parametrize("part", ["plan", "signature", "id"])
async def test_no_part_of_a_link_can_be_changed(guarded_responder: ResponderServer, part: str) -> None:
    execution_id, other = await held(guarded_responder), await held(guarded_responder, service="frontend")
    link = await link_of(guarded_responder, execution_id)
    forged = {
        "plan": re.sub(r"plan=\w+", "plan=000000000000", link),
        "signature": re.sub(r"signature=\w+", "signature=%C3%A9", link),
        "id": link.replace(execution_id, other),
    }[part]
    for method, data in (("GET", None), ("POST", {"name": "eve"})):
        status, text = await page(guarded_responder, method, forged, data=data)
        assert status in (403, 409)
        assert "not valid" in text
    assert (
        (await state(guarded_responder, execution_id))[0]
        == (await state(guarded_responder, other))[0]
        == "awaiting_approval"
    )


async def test_a_link_expires_with_its_plan(guarded_responder: ResponderServer) -> None:
    execution_id = await held(guarded_responder)
    link, now = await link_of(guarded_responder, execution_id), datetime.now(UTC)
    renewed = ApprovalRequested(at=now, reason="frozen", until=now + timedelta(minutes=5), renewed=True)
    await guarded_responder.append(execution_id, renewed)
    assert (await page(guarded_responder, "GET", link))[0] == 200
    await guarded_responder.append(execution_id, StopRequested(at=now, by="alice", reason="no"))
    status, text = await page(guarded_responder, "GET", link)
    assert (status, "no longer awaits approval" in text) == (403, True)


async def test_a_resolved_alert_requires_one_more_click(guarded_responder: ResponderServer) -> None:
    execution_id = await held(guarded_responder)
    guarded_responder.prometheus.vectors['probe_success{service="backend"}'] = [({}, "1")]
    link = await link_of(guarded_responder, execution_id)
    text = (await page(guarded_responder, "GET", link))[1]
    assert ("already resolved" in text, 'name="although_resolved"' in text) == (True, True)
    assert (await page(guarded_responder, "POST", link, data={"name": "alice"}))[0] == 409
    status, _ = await page(guarded_responder, "POST", link, data={"name": "alice", "although_resolved": "yes"})
    assert (status, (await state(guarded_responder, execution_id))[0]) == (200, "running")


async def test_the_page_shows_the_cost_of_the_plan(guarded_responder: ResponderServer) -> None:
    remains = Mitigation(platform="android", blocked_versions=("2.1",), remains="publish 2.2, built from 2.0")
    costs = {"notes": ("3 orders are lost & <b>gone</b>",), "mitigations": (remains,)}
    execution_id = await held(guarded_responder, with_plan=plan().model_copy(update=costs))
    status, text = await page(guarded_responder, "GET", await link_of(guarded_responder, execution_id))
    assert status == 200
    assert "<li>3 orders are lost &amp; &lt;b&gt;gone&lt;/b&gt;</li>" in text
    assert "<li>remains on android (2.1 blocked): publish 2.2, built from 2.0</li>" in text


async def test_labels_are_escaped(guarded_responder: ResponderServer) -> None:
    execution_id = await held(guarded_responder, reason="<script>alert(1)</script>")
    link = await link_of(guarded_responder, execution_id)
    _, text = await page(guarded_responder, "GET", link)
    assert "<script>" not in text
    _, text = await page(guarded_responder, "POST", link, data={"name": "<b>eve</b>"})
    assert "<b>" not in text


async def test_only_clients_that_may_approve_see_the_link(guarded_responder: ResponderServer) -> None:
    execution_id = await held(guarded_responder)
    path = f"/api/v1/executions/{execution_id}"
    assert "approve_url" not in (await guarded_responder.get(path, headers=READER))[1]


async def test_an_irreversible_plan_has_no_link(guarded_responder: ResponderServer) -> None:
    lost = plan(change(irreversible="12 rows of orders are lost"), gate(otherwise="freeze"))
    execution_id = await held(guarded_responder, with_plan=lost, requested_by="approve-only")
    found = await guarded_responder.journal.read(executions.load, execution_id)
    assert guarded_responder.links.approve_link(found) is None
    status, body = await guarded_responder.post(
        f"/api/v1/executions/{execution_id}/approve", {"plan_hash": lost.hash}, headers=APPROVER
    )
    assert (status, "12 rows of orders are lost (irreversible)" in body["error"]) == (409, True)


async def test_without_tokens_there_are_no_links(responder: ResponderServer) -> None:
    execution_id = await held(responder)
    assert responder.links.approve_link(await responder.journal.read(executions.load, execution_id)) is None
    status, _ = await page(responder, "GET", f"/approve/{execution_id}?plan={plan().hash}&signature=")
    assert status == 403

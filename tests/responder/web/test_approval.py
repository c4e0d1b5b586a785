"""A link is the permission for one plan: it shows the plan, and only the button approves."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from responder.execution import Held, Planned, Stopped
from responder.journal import executions
from responder.plan import Mitigation, Plan
from tests.responder.examples import accepted, gate, move, plan
from tests.responder.web.conftest import SECRETS, House

APPROVER = {"Authorization": f"Bearer {SECRETS['approve']}"}
READER = {"Authorization": f"Bearer {SECRETS['read']}"}


async def held(house: House, *, waits: float = 600, one: Plan | None = None, **told: Any) -> str:
    now = datetime.now(UTC)
    execution = await house.journal.transaction(executions.accept, executions.new_id(now), accepted(at=now, **told))
    await house.append(
        execution.id,
        Planned(at=now, plan=one or plan()),
        Held(at=now, reason="frozen", until=now + timedelta(seconds=waits)),
    )
    return execution.id


async def link_of(house: House, execution: str) -> str:
    """As whoever may approve and read sees it; relative to the server."""
    found = house.links.link(await house.journal.read(executions.load, execution))
    assert found is not None
    return str(found.partition("/approve/")[1] + found.partition("/approve/")[2])


async def page(house: House, method: str, link: str, **how: Any) -> tuple[int, str]:
    async with house.client.request(method, link, **how) as response:
        assert response.headers["X-Frame-Options"] == "DENY"
        return response.status, await response.text()


async def state(house: House, execution: str) -> tuple[str, str]:
    found = await house.journal.read(executions.load, execution)
    return found.state, found.reason


async def test_looking_at_it_approves_nothing_and_the_button_does(guarded_house: House) -> None:
    one = await held(guarded_house)
    guarded_house.still_fires()
    link = await link_of(guarded_house, one)
    for _ in range(2):
        status, text = await page(guarded_house, "GET", link)
        assert '<meta name=viewport content="width=device-width' in text, "it is read on phones"
        assert (status, "2.1 → 2.0" in text, "current release of /srv/backend" in text) == (200, True, True)
    assert await state(guarded_house, one) == ("held", "frozen")
    status, text = await page(guarded_house, "POST", link, data={"name": "alice"})
    assert (status, "that alice approved it" in text) == (200, True)
    assert await state(guarded_house, one) == ("running", "approved by alice (by link)")
    status, text = await page(guarded_house, "POST", link, data={"name": "bob"})
    assert (status, "no longer waits for approval" in text) == (409, True)


async def test_who_it_was_must_be_said(guarded_house: House) -> None:
    one = await held(guarded_house)
    status, _ = await page(guarded_house, "POST", await link_of(guarded_house, one), data={"name": "  "})
    assert (status, (await state(guarded_house, one))[0]) == (409, "held")


@pytest.mark.parametrize("part", ["plan", "signature", "id"])
async def test_nothing_of_it_can_be_changed(guarded_house: House, part: str) -> None:
    one, other = await held(guarded_house), await held(guarded_house, service="frontend")
    link = await link_of(guarded_house, one)
    forged = {
        "plan": re.sub(r"plan=\w+", "plan=000000000000", link),
        "signature": re.sub(r"signature=\w+", "signature=%C3%A9", link),
        "id": link.replace(one, other),
    }[part]
    for method, data in (("GET", None), ("POST", {"name": "eve"})):
        status, text = await page(guarded_house, method, forged, data=data)
        assert status in (403, 409)
        assert "not valid" in text
    assert (await state(guarded_house, one))[0] == (await state(guarded_house, other))[0] == "held"


async def test_it_ends_when_the_plan_does(guarded_house: House) -> None:
    one = await held(guarded_house)
    link, now = await link_of(guarded_house, one), datetime.now(UTC)
    renewed = Held(at=now, reason="frozen", until=now + timedelta(minutes=5), renewed=True)
    await guarded_house.append(one, renewed)
    assert (await page(guarded_house, "GET", link))[0] == 200
    await guarded_house.append(one, Stopped(at=now, by="alice", reason="no"))
    status, text = await page(guarded_house, "GET", link)
    assert (status, "no longer waits for approval" in text) == (403, True)


async def test_what_is_resolved_takes_one_more_click(guarded_house: House) -> None:
    one = await held(guarded_house)
    guarded_house.prometheus.vectors['probe_success{service="backend"}'] = [({}, "1")]
    link = await link_of(guarded_house, one)
    text = (await page(guarded_house, "GET", link))[1]
    assert ("resolved by now" in text, 'name="although_resolved"' in text) == (True, True)
    assert (await page(guarded_house, "POST", link, data={"name": "alice"}))[0] == 409
    status, _ = await page(guarded_house, "POST", link, data={"name": "alice", "although_resolved": "yes"})
    assert (status, (await state(guarded_house, one))[0]) == (200, "running")


async def test_who_approves_is_told_what_the_plan_costs(guarded_house: House) -> None:
    remains = Mitigation(platform="android", blocked_versions=("2.1",), remains="publish 2.2, built from 2.0")
    told = {"notes": ("3 orders are lost & <b>gone</b>",), "mitigations": (remains,)}
    one = await held(guarded_house, one=plan().model_copy(update=told))
    status, text = await page(guarded_house, "GET", await link_of(guarded_house, one))
    assert status == 200
    assert "<li>3 orders are lost &amp; &lt;b&gt;gone&lt;/b&gt;</li>" in text
    assert "<li>remains on android (2.1 blocked): publish 2.2, built from 2.0</li>" in text


async def test_what_came_from_labels_is_no_markup(guarded_house: House) -> None:
    one = await held(guarded_house, reason="<script>alert(1)</script>")
    link = await link_of(guarded_house, one)
    _, text = await page(guarded_house, "GET", link)
    assert "<script>" not in text
    _, text = await page(guarded_house, "POST", link, data={"name": "<b>eve</b>"})
    assert "<b>" not in text


async def test_only_who_may_approve_sees_the_link(guarded_house: House) -> None:
    one = await held(guarded_house)
    path = f"/api/v1/executions/{one}"
    assert "approve_url" not in (await guarded_house.get(path, headers=READER))[1]


async def test_no_link_stands_for_a_name_where_the_name_matters(guarded_house: House) -> None:
    lost = plan(move(irreversible="12 rows of orders are lost"), gate(otherwise="freeze"))
    one = await held(guarded_house, one=lost, requested_by="approve-only")
    found = await guarded_house.journal.read(executions.load, one)
    assert guarded_house.links.link(found) is None
    status, body = await guarded_house.post(
        f"/api/v1/executions/{one}/approve", {"plan_hash": lost.hash}, headers=APPROVER
    )
    assert (status, "12 rows of orders are lost: that cannot be undone" in body["error"]) == (409, True)


async def test_without_tokens_there_are_no_links(house: House) -> None:
    one = await held(house)
    assert house.links.link(await house.journal.read(executions.load, one)) is None
    status, _ = await page(house, "GET", f"/approve/{one}?plan={plan().hash}&signature=")
    assert status == 403

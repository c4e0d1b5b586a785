"""Concurrent requests on PostgreSQL: no mark or report falls between another request's read and its write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from responder.backends.check import Finding
from responder.backends.connections import Connections
from responder.journal import Database, open_journal
from responder.operations.decided import Decided
from responder.operations.respond import Claimer, respond
from responder.rollback.events import Closed, Planned, StepCompleted, StepStarted
from responder.rollback.gateway import Gateway
from responder.runtime.promotion import promote
from responder.services import registry, rollbacks
from tests.responder.examples import accepted, ago, by_hand, deployment, plan, policy_set, service
from tests.responder.web.conftest import ResponderServer

TARGET = "/api/v1/versions/backend/2.0"
Act = Callable[..., Awaitable[Any]]


@pytest.fixture
async def state(postgres_server: Any, request: pytest.FixtureRequest) -> str:
    return str(await postgres_server.database(f"between_{abs(hash(request.node.name))}"))


@pytest.fixture
async def journal(state: str) -> AsyncIterator[Database]:
    opened = await open_journal(state)
    yield opened
    await opened.close()


_SOMEBODY_WAITS = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


class DelayedCommit:
    """Delays a transaction before its commit until another one has arrived."""

    def __init__(self, state: str) -> None:
        self._state, self._there, self._on = state, asyncio.Event(), asyncio.Event()

    def after(self, act: Act) -> Act:
        async def then_wait(*args: Any, **kwargs: Any) -> Any:
            answer = await act(*args, **kwargs)
            self._there.set()
            await self._on.wait()
            return answer

        return then_wait

    async def while_it_waits(self, first: Awaitable[Any], second: Callable[[], Awaitable[Any]]) -> tuple[Any, Any]:
        """The results of both. The second starts while the first is delayed, and must wait for it."""
        running, waiting = asyncio.ensure_future(first), asyncio.ensure_future(self._there.wait())
        await asyncio.wait([running, waiting], return_when="FIRST_COMPLETED")
        assert waiting.done(), running.result()
        other = asyncio.ensure_future(second())
        connection = await asyncpg.connect(self._state)
        try:
            async with asyncio.timeout(60):
                while not other.done() and not await connection.fetchval(_SOMEBODY_WAITS):
                    await asyncio.sleep(0.01)
        finally:
            await connection.close()
            came_between = other.done()
            self._on.set()
            both = await asyncio.gather(running, other)
        assert not came_between, both
        return both


@pytest.fixture
def held(state: str) -> DelayedCommit:
    return DelayedCommit(state)


async def etag(responder: ResponderServer, version: str) -> str:
    found = (await responder.get("/api/v1/versions/backend"))[1]["versions"]
    return next(f'"{row["etag"]}"' for row in found if row["version"] == version)


async def test_a_mark_does_not_overwrite_an_unread_promotion(
    responder: ResponderServer, held: DelayedCommit, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Healthy(Gateway):
        async def holds(self, check: Any) -> Finding:
            return Finding(holds=True, reason="")

    await responder.deployed("2.1", 86400)
    seen = await etag(responder, "2.1")
    monkeypatch.setattr(registry, "promote", held.after(registry.promote))
    promoted, (status, body) = await held.while_it_waits(
        promote(responder.journal, responder.policy_set, Healthy(Connections()), datetime.now(UTC)),
        lambda: responder.post("/api/v1/versions/backend/2.1", {"status": "retired"}, headers={"If-Match": seen}),
    )
    assert [version.version for version in promoted] == ["2.1"]
    assert (status, body["error"]) == (412, "someone else changed it: read it again")


@pytest.mark.parametrize(
    ("path", "payload"),
    [
        (TARGET, {"status": "bad"}),
        ("/api/v1/versions/backend/2.1", {"no_rollback": "CVE"}),
        ("/api/v1/deployments", {"service": "backend", "version": "2.2"}),
        (
            "/api/v1/deployments",
            {"service": "backend", "version": "2.0", "requires": {"database": ">=9"}, "id": "deploy-2.0"},
        ),
    ],
)
async def test_no_report_falls_between_a_decision_and_its_rollback(
    path: str, payload: dict[str, Any], responder: ResponderServer, held: DelayedCommit, monkeypatch: pytest.MonkeyPatch
) -> None:
    await responder.good_then_new()
    monkeypatch.setattr(rollbacks, "accept", held.after(rollbacks.accept))
    (status, decided), (payload_status, _) = await held.while_it_waits(
        responder.post("/api/v1/rollbacks", {"service": "backend", "reason": "errors"}),
        lambda: responder.post(path, payload),
    )
    assert (status, decided["result"], payload_status // 100) == (202, "allow", 2)


async def test_the_next_decision_sees_all_consequences_of_a_rollback(
    responder: ResponderServer, held: DelayedCommit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never the old running version together with the closed rollback: it would be rolled back again."""
    await responder.good_then_new()
    begun = await responder.journal.transaction(rollbacks.accept, "r1", accepted())
    at = ago(1, datetime.now(UTC))
    steps = [
        Planned(at=at, plan=plan()),
        StepStarted(at=at, step=0, title="x"),
        StepCompleted(at=at, step=0, changed=True),
    ]
    over = Closed(at=datetime.now(UTC), outcome="succeeded", by="responder", reason="over")
    monkeypatch.setattr(registry, "record_reverted_platforms", held.after(registry.record_reverted_platforms))
    _, (status, decided) = await held.while_it_waits(
        responder.journal.transaction(rollbacks.append, begun, [*steps, over], None),
        lambda: responder.post("/api/v1/rollbacks", {"service": "backend", "reason": "errors"}),
    )
    assert (status, decided["guard"]) == (409, "target_version"), decided


async def test_two_bodies_with_a_common_service_do_not_wait_for_each_other(
    responder: ResponderServer, connections: Connections, held: DelayedCommit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One has accepted the first and needs the second; the other holds the second and wants to claim it."""
    by = policy_set(services=(service(), service("frontend")))
    for name in ("backend", "frontend"):
        for version, seconds, status in (("2.0", 86400, "good"), ("2.1", 60, None)):
            at = ago(seconds, datetime.now(UTC))
            deployed = deployment(id=f"{name}-{version}", service=name, version=version, at=at)
            await responder.journal.transaction(registry.record, deployed, status)

    async def ask(*services: str) -> list[Decided]:
        incidents = [by_hand(service=name, received_at=datetime.now(UTC)) for name in services]
        claimer = Claimer(worker="w", concurrent=9)
        return await respond(
            incidents, policy_set=by, journal=responder.journal, connections=connections, claimer=claimer
        )

    monkeypatch.setattr(rollbacks, "accept", held.after(rollbacks.accept))
    first, second = await held.while_it_waits(ask("backend", "frontend"), lambda: ask("frontend"))
    assert [result.claimed for result in first] == [True, True]
    assert [result.decision.deciding.guard for result in second] == ["in_progress"]

"""The state of other services, as the journal knows it: their trouble, their rollbacks, and dependencies."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from responder.decisions.fleet import collect_fleet_state, returned_at
from responder.decisions.incidents import Incident
from responder.decisions.limits import CircuitBreaker, Limits
from responder.decisions.policy_set import PolicySet
from responder.journal import Database, decisions
from responder.journal.decisions import RecordedDecision
from responder.rollback.events import (
    ApprovalRequested,
    Closed,
    Event,
    Outcome,
    Planned,
    RetriesExhausted,
    StepCompleted,
    StepStarted,
    StopRequested,
)
from responder.services import rollbacks
from tests.responder.examples import NOW, accepted, ago, incident, plan, policy, policy_set, service

BY = PolicySet(
    services=tuple(service(name) for name in ("backend", "cart", "search")),
    policies=(policy(),),
    limits=Limits(circuit_breaker=CircuitBreaker(within=120.0)),
)
CASE = incident()


async def decide(
    journal: Database, at: datetime, of: str = "cart", *, case: Incident | None = None, **other: Any
) -> None:
    """Records a decision on an incident of that service, or on this incident."""
    fields = {
        "id": f"{of}-{at:%H%M%S}",
        "incident": case.id if case else f"trouble of {of}",
        "policy": "backend-down",
        "service": case.service if case else of,
        "environment": "production",
        "result": "deny",
        "guard": "cooldown",
        "reason": "x",
        "body": "{}",
        **other,
    }
    await journal.transaction(decisions.insert, RecordedDecision(at=at, last_at=at, **fields))


async def in_trouble(journal: Database, by: PolicySet = BY, beside: tuple[str, ...] = ()) -> tuple[str, ...]:
    state = await journal.read(collect_fleet_state, CASE, service(), by, NOW, beside)
    return state.also_in_trouble


# --- trouble at the same time ---
@pytest.mark.parametrize(("seconds_ago", "counts"), [(121, False), (120, True), (0, True), (-120, True), (-121, False)])
async def test_trouble_counts_close_to_an_incident_that_is_new(
    journal: Database, seconds_ago: float, counts: bool
) -> None:
    await decide(journal, ago(seconds_ago))
    assert await in_trouble(journal) == (("cart",) if counts else ())


@pytest.mark.parametrize(("seconds_ago", "counts"), [(721, False), (720, True), (480, True), (479, False), (0, False)])
async def test_trouble_counts_close_to_the_first_decision_about_the_incident(
    journal: Database, seconds_ago: float, counts: bool
) -> None:
    await decide(journal, ago(600), case=CASE)
    await decide(journal, ago(300), case=CASE, id="again", guard="rate_limit")
    await decide(journal, ago(seconds_ago))
    assert await in_trouble(journal) == (("cart",) if counts else ())


async def test_trouble_counts_close_to_its_return_as_well(journal: Database) -> None:
    await decide(journal, ago(3600), case=CASE, guard="trouble_now")
    await decide(journal, ago(600), case=CASE, id="back")
    await decide(journal, ago(3500), "search")
    await decide(journal, ago(500), "cart")
    assert await journal.read(returned_at, CASE, NOW) == ago(600)
    assert await in_trouble(journal) == ("cart", "search")


async def test_trouble_that_returns_now_counts_from_now(journal: Database) -> None:
    assert await journal.read(returned_at, CASE, NOW) is None
    await decide(journal, ago(3600), case=CASE, guard="trouble_now")
    await decide(journal, ago(60), "cart")
    assert await journal.read(returned_at, CASE, NOW) == NOW
    assert await in_trouble(journal) == ("cart",)


async def test_services_of_the_same_webhook_body_count_and_connected_ones_do_not(journal: Database) -> None:
    dependent = service("search", depends_on=("backend",))
    by = BY.model_copy(update={"services": (service(), service("cart"), dependent)})
    await decide(journal, NOW, "cart")
    await decide(journal, NOW, "search")
    assert await in_trouble(journal, by, ("search", "zone", "api")) == ("api", "cart", "zone")


@pytest.mark.parametrize("other", [{"environment": "staging"}, {"forced": True}, {"action": "preserve_logs"}])
async def test_other_decisions_are_no_trouble(journal: Database, other: dict[str, Any]) -> None:
    await decide(journal, NOW, **other)
    assert await in_trouble(journal) == ()


# --- rollbacks ---
async def roll_back(
    journal: Database, execution_id: str, of: str, at: datetime, *, outcome: Outcome | None = None, changed: bool = True
) -> None:
    """A rollback that was accepted then; with an outcome, one that ended then."""
    execution = await journal.transaction(rollbacks.accept, execution_id, accepted(service=of, at=at))
    if outcome is None:
        return
    events: list[Event] = [
        Planned(at=at, plan=plan()),
        StepStarted(at=at, step=0, title="x"),
        StepCompleted(at=at, step=0, changed=changed),
        Closed(at=at, outcome=outcome, by="responder", reason="over"),
    ]
    await journal.transaction(rollbacks.append, execution, events, None)


async def test_rollbacks_of_the_last_hour_are_counted(journal: Database) -> None:
    state = await journal.read(collect_fleet_state, CASE, service(), BY, NOW)
    assert (state.begun_lately, state.next_place_at) == (0, None)
    await roll_back(journal, "r0", "db", ago(3601))
    await roll_back(journal, "r1", "cart", ago(3600))
    await roll_back(journal, "r2", "search", ago(60))
    state = await journal.read(collect_fleet_state, CASE, service(), BY, NOW)
    assert (state.begun_lately, state.next_place_at) == (2, NOW)


# --- dependencies ---
NEEDS = policy_set(services=(service(depends_on=("db", "cache")), service("db"), service("cache")))


async def locked(journal: Database, case: Incident = CASE) -> tuple[str, ...]:
    (needing, *_) = NEEDS.services
    return (await journal.read(collect_fleet_state, case, needing, NEEDS, NOW)).needs_locked


async def test_a_dependency_that_is_being_rolled_back_is_locked(journal: Database) -> None:
    assert await locked(journal) == ()
    await roll_back(journal, "r1", "db", ago(10))
    await roll_back(journal, "r2", "cache", ago(5))
    assert await locked(journal) == ("db (r1 is accepted)", "cache (r2 is accepted)")
    together = incident(together=("backend", "db"))
    assert await locked(journal, together) == ("cache (r2 is accepted)",), "db is a part of the same rollback"


@pytest.mark.parametrize(
    ("event", "state"),
    [
        (Planned(at=NOW, plan=plan()), "running"),
        (StopRequested(at=NOW, by="alice", reason="enough"), "reverting"),
        (ApprovalRequested(at=NOW, reason="a freeze", until=NOW), "awaiting_approval"),
        (RetriesExhausted(at=NOW, reason="too often"), "stuck"),
    ],
)
async def test_a_dependency_is_locked_until_its_rollback_is_closed(journal: Database, event: Event, state: str) -> None:
    execution = await journal.transaction(rollbacks.accept, "r1", accepted(service="db", at=ago(60)))
    await journal.transaction(rollbacks.append, execution, [event], None)
    assert await locked(journal) == (f"db (r1 is {state})",)


@pytest.mark.parametrize(
    ("seconds_ago", "changed", "is_locked"),
    [(29, True, True), (30, True, False), (31, True, False), (29, False, False)],
)
async def test_a_dependency_recovers_after_its_rollback(
    journal: Database, seconds_ago: float, changed: bool, is_locked: bool
) -> None:
    outcome: Outcome = "reverted" if changed else "failed"
    await roll_back(journal, "r1", "db", ago(seconds_ago), outcome=outcome, changed=changed)
    assert await locked(journal) == (("db (r1 ended less than 30s ago)",) if is_locked else ())


async def test_trouble_returns_with_the_first_decision_after_it_was_gone(journal: Database) -> None:
    await decide(journal, ago(3600), case=CASE, guard="trouble_now")
    await decide(journal, ago(599), case=CASE, id="back")
    await decide(journal, ago(300), case=CASE, id="more", guard="rate_limit")
    assert await journal.read(returned_at, CASE, NOW) == ago(599)


async def test_in_a_storm_only_as_many_services_are_read_as_decide(journal: Database) -> None:
    by = PolicySet(services=tuple(service(f"s{n:02d}") for n in range(60)), policies=(policy(),))
    for n in range(60):
        await decide(journal, ago(n), of=f"s{n:02d}")
    assert len(await in_trouble(journal, by)) == by.limits.circuit_breaker.counted

"""Collects the facts about an incident and evaluates the guards: once to decide, and again before the first change."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import zip_longest
from typing import NamedTuple

from responder.backends.connections import Connections
from responder.decisions.alert_state import query_live_state
from responder.decisions.facts import Facts, LiveState
from responder.decisions.fleet import collect_fleet_state
from responder.decisions.guards import GUARDS, LIVE, LOG_GUARDS, Decision, GuardResult, decide
from responder.decisions.incidents import Incident
from responder.decisions.journal_facts import gather
from responder.decisions.policy_set import PolicySet
from responder.journal import Database, Transaction
from responder.rollback.execution import Execution


async def query_live_states(
    incident: Incident, facts_of_each: Sequence[Facts], policy_set: PolicySet, connections: Connections
) -> tuple[LiveState, ...]:
    """The live state for each service of the incident."""
    pairs = zip(incident.members, facts_of_each, strict=True)
    return tuple(
        await asyncio.gather(*(query_live_state(member, facts, policy_set, connections) for member, facts in pairs))
    )


async def collect(
    tx: Transaction,
    incident: Incident,
    lives: Sequence[LiveState] | None,
    policy_set: PolicySet,
    now: datetime,
    beside: frozenset[str] = frozenset(),
) -> tuple[Facts, ...]:
    """The facts about each service of the incident. The state of the fleet is included only with live states."""
    facts_of_each = []
    for member, live in zip_longest(incident.members, lives or ()):
        facts = await gather(tx, member, policy_set, now, incident)
        if live is not None and facts.service:
            fleet = await collect_fleet_state(tx, member, facts.service, policy_set, now, beside)
            facts = facts.model_copy(update={"live": live, "fleet": fleet})
        facts_of_each.append(facts)
    return tuple(facts_of_each)


def evaluate(incident: Incident, facts_of_each: Sequence[Facts], now: datetime) -> Decision:
    """Evaluates the guards for each service of the incident. A denial for one service denies all."""
    guards = GUARDS if incident.action == "roll_back" else LOG_GUARDS
    guard_results: list[GuardResult] = []
    for member, facts in zip(incident.members, facts_of_each, strict=True):
        results = decide(member, facts, now, guards).guard_results
        guard_results += [_prefixed(result, member.service) for result in results] if guard_results else results
    return Decision(guard_results=tuple(guard_results))


def _prefixed(result: GuardResult, service: str) -> GuardResult:
    return result.model_copy(update={"reason": f"{service}: {result.reason}"})


def incident_of(execution: Execution, policy_set: PolicySet) -> Incident:
    """The incident that an execution was accepted for."""
    accepted = execution.accepted
    return Incident(
        policy=policy_set.policy(accepted.policy),
        service=accepted.service,
        environment=accepted.environment,
        alerts=accepted.alerts,
        received_at=accepted.received_at,
        requested_by=accepted.requested_by,
        forced=accepted.forced,
        together=tuple(part.service for part in accepted.also and accepted.parts),
    )


async def others_in_trouble(
    tx: Transaction, execution: Execution, policy_set: PolicySet, now: datetime
) -> tuple[str, ...]:
    """Other services of the environment in trouble since `verify.within` before this rollback was accepted.

    At most `limits.circuit_breaker.counted`.
    """
    accepted, most = execution.accepted, policy_set.limits.circuit_breaker.counted
    within = timedelta(seconds=policy_set.policy(accepted.policy).verify.within)
    connected = policy_set.connected_services(incident_of(execution, policy_set))
    where = {"service": accepted.service, "environment": accepted.environment, "most": most + len(connected)}
    rows = await tx.all("services_in_trouble", **where, since=accepted.at - within, until=now)
    return tuple(sorted({str(row["service"]) for row in rows} - connected)[:most])


class GuardDenial(NamedTuple):
    """Why a rollback that was accepted before is denied now."""

    guard: str
    reason: str
    resolved: bool = False  # denied only because the trouble is no longer visible
    unknown: bool = False  # denied only because a system did not answer


async def evaluate_again(
    execution: Execution, *, policy_set: PolicySet, journal: Database, connections: Connections, now: datetime
) -> GuardDenial | None:
    """The first guard with live data that denies now; None if none does.

    Evaluated before the first change, on approval, and when the approval times out. It skips requests by a
    person, and skips the check for visible trouble if a person approved the plan although it was resolved.
    """
    incident = incident_of(execution, policy_set)
    if incident.forced or incident.by_name:
        return None
    facts_of_each = await journal.read(collect, incident, None, policy_set, now)
    lives = await query_live_states(incident, facts_of_each, policy_set, connections)
    facts_of_each = await journal.read(collect, incident, lives, policy_set, now)
    for member, facts in zip(incident.members, facts_of_each, strict=True):
        for result in decide(member, facts, now).guard_results:
            if result.result == "deny" and result.guard in LIVE:
                refusal = _refusal(result, facts)
                if not (refusal.resolved and execution.although_resolved):
                    return refusal
    return None


def _refusal(result: GuardResult, facts: Facts) -> GuardDenial:
    live, state = facts.live, ""
    if live and result.guard == "still_firing":
        state = live.state
    elif live and live.trouble_now and result.guard == "trouble_now":
        state = live.trouble_now.state
    return GuardDenial(result.guard, result.reason, resolved=state == "gone", unknown=state == "unknown")

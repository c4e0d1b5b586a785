"""Collects the facts about an incident and asks the guards: once to decide, and again before the first change."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import zip_longest
from typing import NamedTuple

from responder.backends.connections import Connections
from responder.decisions.alert_state import ask_live
from responder.decisions.facts import Facts, LiveState
from responder.decisions.fleet import look_around
from responder.decisions.guards import GUARDS, LIVE, LOG_GUARDS, Decision, GuardResult, decide
from responder.decisions.incidents import Incident
from responder.decisions.journal_facts import gather
from responder.decisions.policy_set import PolicySet
from responder.journal import Database, Transaction
from responder.rollback.execution import Execution


async def ask_outside(
    incident: Incident, situations: Sequence[Facts], policy_set: PolicySet, connections: Connections
) -> tuple[LiveState, ...]:
    """What only the outside knows, for each service of the incident."""
    pairs = zip(incident.members, situations, strict=True)
    return tuple(await asyncio.gather(*(ask_live(member, facts, policy_set, connections) for member, facts in pairs)))


async def collect(
    tx: Transaction,
    incident: Incident,
    lives: Sequence[LiveState] | None,
    policy_set: PolicySet,
    now: datetime,
    beside: frozenset[str] = frozenset(),
) -> tuple[Facts, ...]:
    """The situation of each service of the incident; what others do only where the outside was asked."""
    situations = []
    for member, live in zip_longest(incident.members, lives or ()):
        facts = await gather(tx, member, policy_set, now, incident)
        if live is not None and facts.service:
            around = await look_around(tx, member, facts.service, policy_set, now, beside)
            facts = facts.model_copy(update={"live": live, "fleet": around})
        situations.append(facts)
    return tuple(situations)


def evaluate(incident: Incident, situations: Sequence[Facts], now: datetime) -> Decision:
    """Of several services, each is judged by itself, and what is refused to one is refused to all."""
    guards = GUARDS if incident.action == "roll_back" else LOG_GUARDS
    guard_results: list[GuardResult] = []
    for member, facts in zip(incident.members, situations, strict=True):
        member_verdicts = decide(member, facts, now, guards).guard_results
        of = f"{member.service}: " if guard_results else ""
        guard_results += [result.model_copy(update={"reason": f"{of}{result.reason}"}) for result in member_verdicts]
    return Decision(guard_results=tuple(guard_results))


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
    """Other services of the environment that alerts wanted to roll back since shortly before this rollback began."""
    accepted = execution.accepted
    within = timedelta(seconds=policy_set.policy(accepted.policy).verify.within)
    where = {"service": accepted.service, "environment": accepted.environment}
    rows = await tx.all("services_in_trouble", **where, since=accepted.at - within, until=now)
    return tuple(
        sorted({str(row["service"]) for row in rows} - policy_set.one_trouble(incident_of(execution, policy_set)))
    )


class Refusal(NamedTuple):
    """What refuses a rollback that was accepted before."""

    guard: str
    reason: str
    resolved: bool = False  # only because the trouble is not visible any more
    unknown: bool = False  # only because somebody did not answer


async def ask_again(
    execution: Execution, *, policy_set: PolicySet, journal: Database, connections: Connections, now: datetime
) -> Refusal | None:
    """The first guard that looks outside and refuses now; None if none does.

    Asked before the first change, before an approval is taken, and when the time to approve a plan is over. It does
    not ask about what a person requested, nor for the trouble if a person approved the plan although it is resolved.
    """
    incident = incident_of(execution, policy_set)
    if incident.forced or incident.by_name:
        return None
    situations = await journal.read(collect, incident, None, policy_set, now)
    lives = await ask_outside(incident, situations, policy_set, connections)
    situations = await journal.read(collect, incident, lives, policy_set, now)
    for member, facts in zip(incident.members, situations, strict=True):
        for result in decide(member, facts, now).guard_results:
            if result.result == "deny" and result.guard in LIVE:
                refusal = _refusal(result, facts)
                if not (refusal.resolved and execution.although_resolved):
                    return refusal
    return None


def _refusal(result: GuardResult, facts: Facts) -> Refusal:
    live, state = facts.live, ""
    if live and result.guard == "still_firing":
        state = live.state
    elif live and live.trouble_now and result.guard == "trouble_now":
        state = live.trouble_now.state
    return Refusal(result.guard, result.reason, resolved=state == "gone", unknown=state == "unknown")

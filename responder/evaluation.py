"""Collects the facts about an incident and asks the guards: once to decide, and again before the first change."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import zip_longest
from typing import NamedTuple

from responder.clients import Connections
from responder.execution import Execution
from responder.guards import GUARDS, OUTSIDE, Judgement, Verdict, judge
from responder.journal import Database, Transaction
from responder.keeping import KEEPING
from responder.live import ask_live
from responder.policies import Incident, Mandate
from responder.survey import Live, Situation, gather, look_around


async def ask_outside(
    incident: Incident, situations: Sequence[Situation], mandate: Mandate, connections: Connections
) -> tuple[Live, ...]:
    """What only the outside knows, for each service of the incident."""
    pairs = zip(incident.members, situations, strict=True)
    return tuple(
        await asyncio.gather(*(ask_live(member, situation, mandate, connections) for member, situation in pairs))
    )


async def collect(
    tx: Transaction,
    incident: Incident,
    lives: Sequence[Live] | None,
    mandate: Mandate,
    now: datetime,
    beside: frozenset[str] = frozenset(),
) -> tuple[Situation, ...]:
    """The situation of each service of the incident; what others do only where the outside was asked."""
    situations = []
    for member, live in zip_longest(incident.members, lives or ()):
        situation = await gather(tx, member, mandate, now, incident)
        if live is not None and situation.service:
            around = await look_around(tx, member, situation.service, mandate, now, beside)
            situation = situation.model_copy(update={"live": live, "around": around})
        situations.append(situation)
    return tuple(situations)


def evaluate(incident: Incident, situations: Sequence[Situation], now: datetime) -> Judgement:
    """Of several services, each is judged by itself, and what is refused to one is refused to all."""
    guards = GUARDS if incident.action == "roll_back" else KEEPING
    verdicts: list[Verdict] = []
    for member, situation in zip(incident.members, situations, strict=True):
        member_verdicts = judge(member, situation, now, guards).verdicts
        of = f"{member.service}: " if verdicts else ""
        verdicts += [verdict.model_copy(update={"reason": f"{of}{verdict.reason}"}) for verdict in member_verdicts]
    return Judgement(verdicts=tuple(verdicts))


def incident_of(execution: Execution, mandate: Mandate) -> Incident:
    """The incident that an execution was accepted for."""
    accepted = execution.accepted
    return Incident(
        policy=mandate.policy(accepted.policy),
        service=accepted.service,
        environment=accepted.environment,
        alerts=accepted.alerts,
        received_at=accepted.received_at,
        requested_by=accepted.requested_by,
        forced=accepted.forced,
        together=tuple(part.service for part in accepted.also and accepted.parts),
    )


async def others_in_trouble(tx: Transaction, execution: Execution, mandate: Mandate, now: datetime) -> tuple[str, ...]:
    """Other services of the environment that alerts wanted to roll back since shortly before this rollback began."""
    accepted = execution.accepted
    within = timedelta(seconds=mandate.policy(accepted.policy).verify.within)
    where = {"service": accepted.service, "environment": accepted.environment}
    rows = await tx.all("in_trouble", **where, since=accepted.at - within, until=now)
    return tuple(sorted({str(row["service"]) for row in rows} - mandate.one_trouble(incident_of(execution, mandate))))


class Refusal(NamedTuple):
    """What refuses a rollback that was accepted before."""

    guard: str
    reason: str
    resolved: bool = False  # only because the trouble is not visible any more
    unknown: bool = False  # only because somebody did not answer


async def ask_again(
    execution: Execution, *, mandate: Mandate, journal: Database, connections: Connections, now: datetime
) -> Refusal | None:
    """The first guard that looks outside and refuses now; None if none does.

    Asked before the first change, before an approval is taken, and when the time to approve a plan is over. It does
    not ask about what a person requested, nor for the trouble if a person approved the plan although it is resolved.
    """
    incident = incident_of(execution, mandate)
    if incident.forced or incident.by_name:
        return None
    situations = await journal.read(collect, incident, None, mandate, now)
    lives = await ask_outside(incident, situations, mandate, connections)
    situations = await journal.read(collect, incident, lives, mandate, now)
    for member, situation in zip(incident.members, situations, strict=True):
        for verdict in judge(member, situation, now).verdicts:
            if verdict.verdict == "refuse" and verdict.guard in OUTSIDE:
                refusal = _refusal(verdict, situation)
                if not (refusal.resolved and execution.although_resolved):
                    return refusal
    return None


def _refusal(verdict: Verdict, situation: Situation) -> Refusal:
    live, state = situation.live, ""
    if live and verdict.guard == "firing":
        state = live.state
    elif live and live.trouble_now and verdict.guard == "trouble_now":
        state = live.trouble_now.state
    return Refusal(verdict.guard, verdict.reason, resolved=state == "gone", unknown=state == "unknown")

"""Decides on incidents, records every decision, and accepts an execution where all guards allow it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from pydantic import BaseModel

from responder.backends.connections import Connections
from responder.decisions.evaluation import collect, evaluate, query_live_states
from responder.decisions.facts import Facts, LiveState
from responder.decisions.guards import needs_live_data
from responder.decisions.incidents import Incident
from responder.decisions.policy_set import PolicySet
from responder.decisions.recording import record_decision
from responder.errors import Conflict
from responder.journal import Transaction, Transactions, deployments, evidence, executions
from responder.operations.decided import Decided
from responder.operations.marks import mark_ineffective, mark_replaced
from responder.rollback.events import Accepted
from responder.rollback.version_change import VersionChange
from responder.services import rollbacks

Clock = Callable[[], datetime]
Begin = Callable[[list[Decided]], None]
_Open = tuple[Incident, tuple[Facts, ...]]

_AT_ONCE = 50
"""Incidents decided in one transaction: a large body delays neither a stop nor other bodies for long.

See docs/decisions/0039-storms-of-alerts.md.
"""


class Claimer(BaseModel):
    """The worker of this process. It claims accepted executions in the same transaction if it has capacity."""

    worker: str
    concurrent: int


async def respond(
    incidents: Sequence[Incident],
    *,
    policy_set: PolicySet,
    journal: Transactions,
    connections: Connections,
    claimer: Claimer | None = None,
    clock: Clock | None = None,
    trouble_visible: bool = False,
    begin: Begin = lambda decided: None,
) -> list[Decided]:
    """Decides on every incident. All decisions and executions are in the journal when it returns.

    The first transactions deny what the journal and the configuration deny. Alertmanager and Prometheus are queried
    only for the remaining incidents, which are then decided again, because time has passed.
    `trouble_visible`: the caller has just seen the trouble, so that a refusal that needs a person is recorded as such.
    `begin`: called with the decisions of each transaction right after it.
    Raises JournalUnavailable; then some decisions may be on record, and the same alerts lead to no second rollback.
    """
    # In a fixed order: two webhook bodies must not wait for each other's locks.
    ordered = sorted(incidents, key=lambda i: (i.service, i.environment, i.policy.name))
    rollbacks = [i for i in ordered if i.action == "roll_back"]
    preservations = [i for i in ordered if i.action != "roll_back"]
    run = _Run(policy_set, claimer, clock or journal.now, begin, trouble_visible)
    decided, undecided = await run.decide_all(journal, rollbacks, [None] * len(rollbacks))
    lives = await asyncio.gather(
        *(query_live_states(incident, facts, policy_set, connections) for incident, facts in undecided)
    )
    remaining = [incident for incident, _ in undecided]
    run = replace(run, alerting=alerting_services(remaining, policy_set))
    later, _ = await run.decide_all(journal, remaining, lives)
    # Last: a rollback that was accepted above preserves its own logs.
    run = _Run(policy_set, None, run.clock, begin)
    preserved, _ = await run.decide_all(journal, preservations, [None] * len(preservations))
    return [*decided, *later, *preserved]


def alerting_services(incidents: Iterable[Incident], policy_set: PolicySet) -> dict[str, frozenset[str]]:
    """The configured services that one webhook body reports as failing, by environment."""
    found: dict[str, set[str]] = {}
    for incident in incidents:
        service, _ = policy_set.service(incident.service, incident.environment)
        if service and not incident.forced and incident.action == "roll_back":
            found.setdefault(incident.environment, set()).add(service.name)
    return {environment: frozenset(names) for environment, names in found.items()}


@dataclass(frozen=True)
class _Run:
    """The common parameters of all incidents of one call."""

    policy_set: PolicySet
    claimer: Claimer | None
    clock: Clock
    begin: Begin
    trouble_visible: bool = False
    alerting: Mapping[str, frozenset[str]] = field(default_factory=dict)

    async def decide_all(
        self, journal: Transactions, incidents: Sequence[Incident], lives: Sequence[Sequence[LiveState] | None]
    ) -> tuple[list[Decided], list[_Open]]:
        """Like `decide`, in several transactions."""
        decided: list[Decided] = []
        undecided: list[_Open] = []
        for first in range(0, len(incidents), _AT_ONCE):
            some = slice(first, first + _AT_ONCE)
            now_decided, still_undecided = await journal.transaction(self.decide, incidents[some], lives[some])
            self.begin(now_decided)
            decided += now_decided
            undecided += still_undecided
        return decided, undecided

    async def decide(
        self, tx: Transaction, incidents: Sequence[Incident], lives: Sequence[Sequence[LiveState] | None]
    ) -> tuple[list[Decided], list[_Open]]:
        """Records the decisions. Also returns the incidents that need live data."""
        decided: list[Decided] = []
        undecided: list[_Open] = []
        # Lock all services first, so that two transactions cannot wait for each other.
        configured = (
            self.policy_set.service(member.service, member.environment)[0] for i in incidents for member in i.members
        )
        await deployments.hold(tx, *((service.name, service.environment) for service in configured if service))
        for incident, live in zip(incidents, lives, strict=True):
            now = self.clock()
            alerting = self.alerting.get(incident.environment, frozenset())
            facts = await collect(tx, incident, live, self.policy_set, now, alerting)
            decision = evaluate(incident, facts, now)
            if needs_live_data(incident, decision, facts[0]):
                undecided.append((incident, facts))
                continue
            first, *also = facts
            result = Decided(incident=incident, facts=first, also=tuple(also), decision=decision, at=now)
            decided.append(await self._record(tx, result))
            for member, member_facts in zip(incident.members, facts, strict=True):
                await mark_replaced(tx, member, member_facts, now)
                await mark_ineffective(tx, member, member_facts, now)
        return decided, undecided

    async def _record(self, tx: Transaction, decided: Decided) -> Decided:
        record_id = executions.new_id(decided.at)
        if decided.decision.deciding.result != "deny":
            if decided.incident.action == "roll_back":
                decided = await _accept(tx, decided, self.claimer)
            else:
                decided = await _preserve_logs(tx, decided, record_id)
        record = decided.record(record_id, trouble_visible=self.trouble_visible)
        await record_decision(tx, record, repeated=not self.trouble_visible)
        return decided


async def _accept(tx: Transaction, decided: Decided, claimer: Claimer | None) -> Decided:
    incident, facts, deciding = decided.incident, decided.facts, decided.decision.deciding
    running = facts.running
    accepted = Accepted(
        at=decided.at,
        **_version_change(facts, incident.strategy).model_dump(exclude={"platform_versions", "execution"}),
        also=tuple(_version_change(other, None) for other in decided.also),
        policy=incident.policy.name,
        requested_by=incident.requested_by,
        forced=incident.forced,
        reason=incident.title,
        approval_reason=deciding.reason if deciding.result == "require_approval" else "",
        on_stop=incident.policy.on_stop,
        alerts=incident.alerts,
        truncated_alerts=incident.truncated_alerts,
        deployment_id=running.id if running else "",
        deployed_at=running.at if running else None,
        onset_at=facts.live.began_at if facts.live else None,
        received_at=incident.received_at,
    )
    execution = await rollbacks.accept(tx, executions.new_id(decided.at), accepted)
    claimed = claimer is not None and await executions.claim_new(
        tx, execution, claimer.worker, concurrent=claimer.concurrent
    )
    return decided.model_copy(update={"execution": execution, "claimed": claimed})


def _version_change(facts: Facts, strategy: str | None) -> VersionChange:
    version = facts.version_change(strategy)
    if version is None:
        raise Conflict("the guards allowed a rollback without a service, a running version or a target: this is a bug")
    return version


async def _preserve_logs(tx: Transaction, decided: Decided, evidence_id: str) -> Decided:
    service, running = decided.facts.service, decided.facts.running
    if service is None:
        raise Conflict("the guards allowed logs to be preserved without a service: this is a bug")
    await evidence.request(
        tx,
        evidence_id,
        policy=decided.incident.policy.name,
        service=service.name,
        environment=service.environment,
        deployment_id=running.id if running else "",
        alerts=decided.incident.alerts,
        at=decided.at,
    )
    return decided.model_copy(update={"evidence": evidence_id})

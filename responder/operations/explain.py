"""What the responder would decide and do now. Nothing is recorded, and nothing is started."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from responder.backends.alertmanager.alerts import Alert, AlertGroup
from responder.backends.connections import Connections
from responder.config.permitted import Permitted
from responder.decisions.evaluation import collect, evaluate, query_live_states
from responder.decisions.guards import needs_live_data
from responder.decisions.incidents import Incident, match_alerts, notify_only
from responder.decisions.policies import Policy
from responder.decisions.policy_set import PolicySet
from responder.errors import StepFailed
from responder.journal import Database, alert_times
from responder.operations.decided import Decided
from responder.operations.permitted import split_by_permission
from responder.operations.planning import plan_rollback
from responder.operations.respond import Clock, alerting_services
from responder.rollback.gateway import Gateway
from responder.rollback.plan import Plan


class Explained(NamedTuple):
    """The decision on one incident, with the plan that would be executed, or why there is none."""

    decided: Decided
    plan: Plan | None = None
    no_plan: str = ""

    def payload(self) -> dict[str, Any]:
        """The API's answer."""
        payload = {**self.decided.payload(), **self.decided.decision.model_dump()}
        if self.plan is not None:
            steps = [str(step) for step in self.plan.steps]
            plan = {**self.plan.model_dump(mode="json"), "hash": self.plan.hash, "step_descriptions": steps}
            return {**payload, "plan": plan}
        return {**payload, "no_plan": self.no_plan} if self.no_plan else payload


class ExplainedAlerts(NamedTuple):
    """What one webhook body would lead to."""

    incidents: list[Explained]
    unmatched: list[Alert]
    notify_only: list[tuple[Policy, list[Alert]]]
    alerts: Sequence[Alert]


async def explain(
    incidents: Sequence[Incident],
    *,
    policy_set: PolicySet,
    journal: Database,
    connections: Connections,
    clock: Clock | None = None,
) -> list[Decided]:
    """The decisions that `respond` would record."""
    decided, clock = [], clock or journal.now
    reported = alerting_services(incidents, policy_set)
    for incident in incidents:
        now = clock()
        alerting = reported.get(incident.environment, frozenset())
        facts = await journal.read(collect, incident, None, policy_set, now, alerting)
        decision = evaluate(incident, facts, now)
        if needs_live_data(incident, decision, facts[0]):
            lives = await query_live_states(incident, facts, policy_set, connections)
            facts = await journal.read(collect, incident, lives, policy_set, now, alerting)
            decision = evaluate(incident, facts, now)
        first, *also = facts
        decided.append(Decided(incident=incident, facts=first, also=tuple(also), decision=decision, at=now))
    return decided


async def explain_with_plan(
    incidents: Sequence[Incident], *, policy_set: PolicySet, journal: Database, connections: Connections
) -> list[Explained]:
    """The decisions, each with its plan (a dry run). Reads what the plan changes, and changes nothing."""
    found = await explain(incidents, policy_set=policy_set, journal=journal, connections=connections)
    return [await _plan(decided, policy_set=policy_set, journal=journal, connections=connections) for decided in found]


async def explain_alerts(
    group: AlertGroup,
    permitted: Permitted,
    now: datetime,
    *,
    policy_set: PolicySet,
    journal: Database,
    connections: Connections,
) -> ExplainedAlerts:
    """What a webhook body would lead to, for the permitted services."""
    alerts = await journal.read(alert_times.known, group.alerts, now)
    incidents, unmatched = match_alerts(alerts, policy_set.index, now, sender="explain")
    incidents, _ = split_by_permission(permitted, incidents, policy_set)
    explained = await explain_with_plan(incidents, policy_set=policy_set, journal=journal, connections=connections)
    return ExplainedAlerts(explained, unmatched, notify_only(alerts, policy_set.index), alerts)


async def _plan(decided: Decided, *, policy_set: PolicySet, journal: Database, connections: Connections) -> Explained:
    incident = decided.incident
    if incident.action != "roll_back":
        return Explained(decided)
    strategies = (incident.strategy, *(None for _ in decided.also))
    every = zip((decided.facts, *decided.also), strategies, strict=True)
    versions = [version for facts, strategy in every if (version := facts.version_change(strategy))]
    if len(versions) < len(strategies):
        return Explained(decided)
    try:
        plan = await plan_rollback(
            versions,
            policy=incident.policy,
            policy_set=policy_set,
            alerts=() if incident.forced else incident.alerts,
            journal=journal,
            gateway=Gateway(connections),
        )
    except StepFailed as failure:
        return Explained(decided, no_plan=str(failure))
    return Explained(decided, plan)

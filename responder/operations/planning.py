"""Makes the plan of a rollback, for a dry run and for an execution."""

from __future__ import annotations

from collections.abc import Sequence

from responder.backends.alertmanager.alerts import Alert
from responder.backends.prometheus.trouble_check import TroubleCheck
from responder.decisions.policies import Policy
from responder.decisions.policy_set import PolicySet
from responder.errors import StepFailed
from responder.journal import Database, deployments
from responder.rollback.gateway import Gateway
from responder.rollback.plan import Plan
from responder.rollback.version_change import VersionChange
from responder.services import planner
from responder.services.service import Service


async def plan_rollback(
    versions: Sequence[VersionChange],
    *,
    policy: Policy,
    policy_set: PolicySet,
    alerts: Sequence[Alert],
    journal: Database,
    gateway: Gateway,
) -> Plan:
    """The plan for these services of one environment. Changes nothing.

    `alerts`: the alerts that opened the rollback and must be resolved at its end; empty if a person forced it.
    Raises StepFailed if a service is not configured any more, or if there is no plan for it.
    """
    services: dict[str, Service] = {}
    for version in versions:
        service, problem = policy_set.service(version.service, version.environment)
        if service is None:
            raise StepFailed(problem)
        services[service.name] = service
    first = versions[0]
    order, because = policy.order
    planning = planner.Planning(
        services=services,
        hold_for=policy.verify.bake,
        within=policy.verify.within,
        trouble=TroubleCheck.of(alerts, policy.expression, first.service, first.environment),
        needs=policy_set.needs,
        order=order,
        because=because,
    )
    details = [await journal.read(deployments.with_platforms, version) for version in versions]
    return await planner.plan(details, gateway, planning)

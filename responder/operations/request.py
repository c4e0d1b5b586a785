"""A rollback that a person requests by name."""

from __future__ import annotations

from datetime import datetime

from responder.decisions.incidents import Incident
from responder.decisions.policies import BY_HAND, Policy
from responder.decisions.policy_set import PolicySet
from responder.services.service import Service


def requested_rollback(
    service: Service,
    policy_set: PolicySet,
    *,
    by: str,
    reason: str,
    at: datetime,
    version: str | None = None,
    strategy: str | None = None,
    also: tuple[str, ...] = (),
) -> Incident:
    """The incident, under the first policy that rolls the service back. docs/reference/guards.md lists what it skips.

    `also`: other services of the environment, for the same rollback.
    """
    return Incident(
        policy=next((policy for policy in policy_set.policies if _covers(policy, service.name)), BY_HAND),
        service=service.name,
        environment=service.environment,
        received_at=at,
        requested_by=by,
        reason=reason,
        forced=True,
        version=version,
        strategy=strategy,
        together=tuple(dict.fromkeys((service.name, *also))) if also else (),
    )


def _covers(policy: Policy, service: str) -> bool:
    named = policy.roll_back
    return named is not None and (not isinstance(named, tuple) or service in named)

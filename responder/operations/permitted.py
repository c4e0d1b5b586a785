"""Limits of tokens and users: every service of a rollback must be permitted."""

from __future__ import annotations

from collections.abc import Iterable

from responder.backends.alertmanager.alerts import Alert
from responder.config.permitted import Permitted
from responder.decisions.incidents import Incident
from responder.decisions.policy_set import PolicySet


def permits(permitted: Permitted, alert: Alert) -> bool:
    """Whether the labels of an alert name a permitted service and environment."""
    return permitted.includes(alert.labels.get("service", ""), alert.labels.get("environment", ""))


def split_by_permission(
    permitted: Permitted, incidents: Iterable[Incident], policy_set: PolicySet
) -> tuple[list[Incident], list[Incident]]:
    """The incidents whose services are all permitted, and the others."""
    allowed: list[Incident] = []
    denied: list[Incident] = []
    for incident in incidents:
        is_allowed = all(_includes(permitted, member, policy_set) for member in incident.members)
        (allowed if is_allowed else denied).append(incident)
    return allowed, denied


def _includes(permitted: Permitted, incident: Incident, policy_set: PolicySet) -> bool:
    service, _ = policy_set.service(incident.service, incident.environment)
    return permitted.includes(incident.service, service.environment if service else incident.environment)

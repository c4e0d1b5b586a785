"""The incidents in a webhook body, or requested by a person."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from foundation.models import FrozenModel
from responder.backends.alertmanager.alerts import Alert
from responder.decisions.policies import Action, Policy, PolicyIndex


class Incident(FrozenModel):
    """A policy, a service, and the alerts that match; or a person's request for a rollback."""

    policy: Policy
    action: Action = "roll_back"
    service: str
    environment: str
    alerts: tuple[Alert, ...] = ()
    received_at: datetime
    truncated_alerts: int = 0
    requested_by: str = "alertmanager"
    reason: str = ""
    forced: bool = False
    version: str | None = None  # the version to roll back to, if a person names one
    strategy: str | None = None  # one of the service's strategies, if a person names one
    together: tuple[str, ...] = ()  # all services of a rollback of several, including this one

    @property
    def members(self) -> tuple[Incident, ...]:
        """One incident per service of the rollback; this one is the first."""
        others = [name for name in self.together if name != self.service]
        cleared = {"version": None, "strategy": None}
        return (self, *(self.model_copy(update={"service": name, **cleared}) for name in others))

    @property
    def by_name(self) -> bool:
        """Whether a person requested it by the API; an incident with alerts must be firing."""
        return not self.alerts

    @property
    def id(self) -> str:
        """Identical for repetitions: a hash of policy, service and the alert that started first."""
        if not self.alerts:
            return f"by-hand-{self.received_at:%Y%m%d%H%M%S%f}"
        first = min(self.alerts, key=lambda alert: (alert.starts_at, alert.fingerprint))
        parts = [self.policy.name, self.service, self.environment, first.fingerprint, first.starts_at.isoformat()]
        parts += [] if self.action == "roll_back" else [self.action]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]

    @property
    def title(self) -> str:
        """The reason, or the names of the alerts with service and environment."""
        if self.reason:
            return self.reason
        names = sorted({alert.name for alert in self.alerts})
        return f"{', '.join(names[:3])}{' …' if len(names) > 3 else ''} on {self.service} in {self.environment}"


class _Key(NamedTuple):
    policy: str
    action: Action
    service: str
    environment: str
    forced: bool
    version: str | None
    strategy: str | None
    together: tuple[str, ...]


def _reason(alerts: Iterable[Alert]) -> str:
    """The annotation `reason` of the request, at most 1000 characters."""
    reasons = (alert.annotations.get("reason", "").strip() for alert in alerts)
    return next((reason[:1000] for reason in reasons if reason), "")


def notify_only(alerts: Sequence[Alert], policies: PolicyIndex) -> list[tuple[Policy, list[Alert]]]:
    """The firing alerts whose policy only notifies, grouped by policy, name, service and environment."""
    found: dict[tuple[str, ...], tuple[Policy, list[Alert]]] = {}
    for alert in alerts:
        policy = policies.first(alert.labels)
        if alert.status == "firing" and policy is not None and not policy.actions:
            where = (alert.labels.get("service", ""), alert.labels.get("environment", ""))
            found.setdefault((policy.name, alert.name, *where), (policy, []))[1].append(alert)
    return list(found.values())


def match_alerts(
    alerts: Sequence[Alert], policies: PolicyIndex, received_at: datetime, *, sender: str, truncated: int = 0
) -> tuple[list[Incident], list[Alert]]:
    """Incidents of the firing alerts, and the firing alerts that match no policy. Each alert is matched by itself."""
    found: dict[_Key, dict[tuple[str, datetime], Alert]] = {}
    by_name: dict[str, Policy] = {}
    unmatched = []
    for alert in alerts:
        if alert.status != "firing":
            continue
        policy = policies.first(alert.labels)
        if policy is None:
            unmatched.append(alert)
            continue
        by_name[policy.name] = policy
        environment = alert.labels.get("environment", "")
        for action, service in ((a, s) for a in policy.actions for s in policy.services_of(alert.labels, a)):
            forced = policy.force and action == "roll_back"
            requested = (alert.labels.get("version"), alert.labels.get("strategy")) if forced else (None, None)
            together = policy.services_of(alert.labels) if policy.together and action == "roll_back" else ()
            if together and service != together[0]:
                continue  # it joins the incident of the first one
            key = _Key(policy.name, action, service, environment, forced, *requested, together)
            found.setdefault(key, {})[alert.fingerprint, alert.starts_at] = alert
    incidents = [
        Incident(
            policy=by_name[key.policy],
            action=key.action,
            service=key.service,
            environment=key.environment,
            alerts=tuple(members.values()),
            received_at=received_at,
            truncated_alerts=truncated,
            requested_by=sender,
            reason=_reason(members.values()) if key.forced else "",
            forced=key.forced,
            version=key.version,
            strategy=key.strategy,
            together=key.together,
        )
        for key, members in found.items()
    ]
    return incidents, unmatched

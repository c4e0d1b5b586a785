"""One valid example of each model; a test sets only the fields that matter to it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from responder.backends.alertmanager.alerts import Alert, fingerprint
from responder.backends.host.release import CurrentRelease
from responder.backends.prometheus.promql_check import PromqlCheck
from responder.decisions.facts import Candidate, Facts, FleetState, LiveState, Past, TroubleNow
from responder.decisions.incidents import Incident
from responder.decisions.policies import Policy
from responder.decisions.policy_set import PolicySet
from responder.journal.deployments import Deployment
from responder.rollback.events import Accepted
from responder.rollback.plan import Change, Gate, Plan, ServicePlan
from responder.rollback.version_change import VersionChange
from responder.services.service import Service

NOW = datetime(2026, 11, 23, 22, 0, tzinfo=UTC)
LABELS = {"alertname": "BackendDown", "service": "backend", "environment": "production"}
ZERO = "0001-01-01T00:00:00Z"


def ago(seconds: float, now: datetime = NOW) -> datetime:
    return now - timedelta(seconds=seconds)


def alert(labels: dict[str, str] | None = None, **other: Any) -> Alert:
    """A firing alert that began a minute ago."""
    labels = LABELS if labels is None else labels
    fields = {"status": "firing", "labels": labels, "starts_at": ago(60), "fingerprint": fingerprint(labels), **other}
    return Alert(**fields)


def sent_alert(labels: dict[str, str] | None = None, **other: Any) -> dict[str, Any]:
    """The alert as in a webhook body of Alertmanager, started ten seconds ago by the real clock."""
    labels = LABELS if labels is None else labels
    return {
        "status": "firing",
        "labels": labels,
        "annotations": {"summary": "no answer"},
        "startsAt": ago(10, datetime.now(UTC)).isoformat(),
        "endsAt": ZERO,
        "generatorURL": "http://prometheus:9090/graph?g0.expr=probe_success+%3D%3D+0",
        "fingerprint": fingerprint(labels),
        **other,
    }


def sent_body(*alerts: dict[str, Any], **other: Any) -> dict[str, Any]:
    """A body as Alertmanager 0.25 sends it."""
    alerts = alerts or (sent_alert(),)
    return {
        "receiver": "web\\.hook",
        "status": "firing",
        "alerts": list(alerts),
        "groupLabels": {"alertname": "BackendDown"},
        "commonLabels": LABELS,
        "commonAnnotations": {},
        "externalURL": "http://alertmanager:9093",
        "version": "4",
        "groupKey": '{}:{alertname="BackendDown"}',
        "truncatedAlerts": 0,
        **other,
    }


def as_bytes(body: Any) -> bytes:
    return json.dumps(body).encode()


def service(name: str = "backend", environment: str = "production", **other: Any) -> Service:
    fields = {
        "rollback": {"strategy": "immediate", "release": {"root": Path("/srv") / name}},
        "health_checks": ({"promql": f'probe_success{{service="{name}"}}', "at_least": 1.0},),
        **other,
    }
    return Service(name=name, environment=environment, **fields)


def policy(**other: Any) -> Policy:
    """A policy in auto mode for `BackendDown`."""
    fields = {
        "name": "backend-down",
        "match": ['alertname="BackendDown"'],
        "roll_back": ("backend",),
        "mode": "auto",
        **other,
    }
    return Policy(**fields)


def policy_set(
    *policies: Policy, services: tuple[Service, ...] | None = None, stop_file: Path | None = None
) -> PolicySet:
    return PolicySet(
        services=(service(),) if services is None else services,
        policies=policies or (policy(),),
        stop_file=stop_file,
    )


def incident(**other: Any) -> Incident:
    fields = {
        "policy": policy(),
        "service": "backend",
        "environment": "production",
        "alerts": (alert(),),
        "received_at": NOW,
        **other,
    }
    return Incident(**fields)


def by_hand(**other: Any) -> Incident:
    """A rollback requested by a person."""
    return incident(**{"alerts": (), "forced": True, "requested_by": "alice", "reason": "errors after 2.1", **other})


def deployment(**other: Any) -> Deployment:
    """Version 2.1, deployed ten minutes ago."""
    fields = {
        "id": "deploy-21",
        "service": "backend",
        "environment": "production",
        "version": "2.1",
        "at": ago(600),
        "recorded_by": "ci",
        "status": "candidate",
        **other,
    }
    return Deployment(**fields)


def past(**other: Any) -> Past:
    """A rollback that succeeded an hour ago."""
    fields = {
        "id": "20261123-210000-0000aaaa",
        "policy": "backend-down",
        "state": "closed",
        "outcome": "succeeded",
        "from_version": "1.9",
        "to_version": "1.8",
        "changed": True,
        "ended_at": ago(3600),
        "reason": "BackendDown",
        **other,
    }
    return Past(**fields)


FIRES = LiveState(
    state="firing",
    reason="firing in Alertmanager",
    trouble_now=TroubleNow(state="visible", reason="BackendDown: visible in the last scrapes"),
)


def make_facts(**other: Any) -> Facts:
    """All guards allow a rollback."""
    fields = {
        "service": service(),
        "running": deployment(),
        "target": Candidate(version="2.0", status="good"),
        "fleet": FleetState(),
        "live": FIRES,
        **other,
    }
    return Facts(**fields)


def release(root: str = "/srv/backend") -> CurrentRelease:
    return CurrentRelease(root=Path(root))


def change(expected: str = "2.1", to: str = "2.0", **other: Any) -> Change:
    return Change(resource=other.pop("resource", release()), before=expected, after=to, **other)


def gate(**other: Any) -> Gate:
    fields = {"name": "backend is healthy", "checks": (PromqlCheck(promql="up", at_least=1.0),), **other}
    return Gate(**fields)


def plan(*steps: Change | Gate) -> Plan:
    """One change and the verification, or the given steps."""
    steps = steps or (change(), gate(otherwise="freeze"))
    return Plan(parts=(ServicePlan(version=version_change(), steps=len(steps) - 1),), steps=steps)


def version_change(service: str = "backend", environment: str = "production", **other: Any) -> VersionChange:
    """From 2.1 back to 2.0."""
    fields = {"from_version": "2.1", "to_version": "2.0", "strategy": "immediate", **other}
    return VersionChange(service=service, environment=environment, **fields)


def accepted(**other: Any) -> Accepted:
    fields = {
        "at": NOW,
        "service": "backend",
        "environment": "production",
        "policy": "backend-down",
        "strategy": "immediate",
        "from_version": "2.1",
        "to_version": "2.0",
        "requested_by": "alertmanager",
        "reason": "BackendDown on backend in production",
        "alerts": (alert(),),
        "received_at": NOW,
        **other,
    }
    return Accepted(**fields)

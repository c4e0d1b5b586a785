"""Records alerts without a decision, with the reason: unreadable, unmatched, not permitted, or notification only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from responder.backends.alertmanager.alerts import Alert, RefusedAlert
from responder.decisions.guards import GuardResult
from responder.decisions.incidents import Incident
from responder.decisions.policies import Policy
from responder.decisions.recording import record_decision
from responder.journal import Transaction, Transactions, decisions, executions
from responder.operations.decided import MOST_ALERTS, recorded_alerts, summary

READABLE = "readable"
"""Recorded instead of a guard for an unreadable alert."""

_MATCHED = "policy"
"""Recorded instead of a guard for an alert that leads to no incident."""

_MOST_RECORDS = 50
"""Maximum records for one webhook body. Equal denials share one, and the last one stands for all others."""


async def record_unreadable(
    journal: Transactions, refused: Sequence[RefusedAlert], now: datetime
) -> list[dict[str, Any]]:
    """Records alerts that could not be read; returns the answer for each. A firing one counts as denied."""
    if not refused:
        return []
    await journal.transaction(_record_unreadable, refused, now)
    return [{**_unreadable(alert), "where": alert.where} for alert in refused]


async def record_notification(
    journal: Transactions, policy: Policy, alerts: Sequence[Alert], now: datetime
) -> dict[str, Any]:
    """Records that a policy only sends notifications for these alerts. Queues them once, however often they arrive."""
    first = min(alerts, key=lambda alert: (alert.starts_at, alert.fingerprint))
    payload = summary(
        policy.name,
        first.labels.get("service", ""),
        first.labels.get("environment", ""),
        result="notify",
        guard=_MATCHED,
        reason=f"{first.name}: notification to {', '.join(policy.notify or ())}; the policy has no other action",
    )
    key = (policy.name, first.fingerprint, first.starts_at.isoformat(), "notify")
    body = {"guard_results": [], **recorded_alerts(alerts)}
    await journal.transaction(record_decision, _record(payload, key, now, body, action="notify"))
    return payload


async def record_unmatched(journal: Transactions, alerts: Sequence[Alert], now: datetime) -> dict[str, Any]:
    """Records that no policy matches these alerts, so that an engineer who expected a rollback finds the reason."""
    services = sorted({alert.labels.get("service", "") for alert in alerts})
    names = sorted({alert.name for alert in alerts})
    payload = summary(
        "",
        services[0] if len(services) == 1 else "",
        alerts[0].labels.get("environment", "") if len(services) == 1 else "",
        result="ignore",
        guard=_MATCHED,
        reason=f"no policy matches {', '.join(names[:5])}{' …' if len(names) > 5 else ''}",
    )
    body = {"guard_results": [_denial(payload)], **recorded_alerts(alerts)}
    key = sorted({alert.fingerprint for alert in alerts})
    await journal.transaction(record_decision, _record(payload, key, now, body))
    return payload


async def record_not_permitted(journal: Transactions, incident: Incident, sender: str, now: datetime) -> dict[str, Any]:
    """Records that the sender's token is limited to other services or environments.

    This is not a decision about a rollback: it is not repeated, and says nothing about the health of the service.
    """
    names = ", ".join(member.service for member in incident.members)
    payload = summary(
        incident.policy.name,
        incident.service,
        incident.environment,
        result="deny",
        guard=_MATCHED,
        reason=f"the token {sender} is not permitted for {names} in {incident.environment or 'any environment'}",
    )
    body = {"guard_results": [_denial(payload)], **recorded_alerts(incident.alerts), "requested_by": sender}
    record = _record(payload, (incident.id, sender), now, body, action="read")
    await journal.transaction(record_decision, record)
    return payload


async def _record_unreadable(tx: Transaction, refused: Sequence[RefusedAlert], now: datetime) -> None:
    equal: dict[str, list[RefusedAlert]] = {}
    for alert in refused:
        key = json.dumps([alert.labels, alert.resolved, alert.reason], sort_keys=True)
        equal.setdefault(key if len(equal) < _MOST_RECORDS else "more", []).append(alert)
    for key, alerts in equal.items():
        payload = _unreadable(alerts[0])
        body = {
            "guard_results": [_denial(payload)],
            "alerts": [],
            "total_alerts": len(alerts),
            "refused": [alert.model_dump(include={"where", "reason", "labels"}) for alert in alerts[:MOST_ALERTS]],
        }
        await record_decision(tx, _record(payload, (READABLE, key), now, body, action="read"))


def _unreadable(alert: RefusedAlert) -> dict[str, Any]:
    name = alert.labels.get("alertname", "")
    # Without the alert's position in the body, which differs each time.
    path = alert.where.rpartition("]")[2].lstrip(".")
    return summary(
        "",
        alert.labels.get("service", ""),
        alert.labels.get("environment", ""),
        result="ignore" if alert.resolved else "deny",
        guard=READABLE,
        reason=f"alert {name or 'without a readable name'} cannot be read: {path and f'{path}: '}{alert.reason}",
    )


def _denial(payload: dict[str, Any]) -> dict[str, Any]:
    return GuardResult(guard=payload["guard"], result="deny", reason=payload["reason"]).model_dump()


def _record(
    payload: dict[str, Any], key: Sequence[str], now: datetime, body: dict[str, Any], action: str = "roll_back"
) -> decisions.RecordedDecision:
    return decisions.RecordedDecision(
        id=executions.new_id(now),
        action=action,
        incident=hashlib.sha256("\0".join(key).encode()).hexdigest()[:20],
        at=now,
        last_at=now,
        body=json.dumps(body),
        **payload,
    )

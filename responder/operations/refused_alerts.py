"""Puts on record which alerts of a body could not be judged and why, each once however often it is sent."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from responder.backends.alertmanager.alerts import RefusedAlert
from responder.decisions.guards import GuardResult
from responder.decisions.recording import record_decision
from responder.journal import Database, Transaction, decisions, executions

GUARD = "readable"
"""Decides in place of the guards: they have nothing to judge."""

_MOST_RECORDS = 50
"""Records of one body; what is alike shares one, and the last one stands for all the rest."""


async def note_refused(journal: Database, refused: Sequence[RefusedAlert], now: datetime) -> list[dict[str, Any]]:
    """What the sender is answered, an entry for each alert. A firing one counts as refused: somebody has to look."""
    if not refused:
        return []
    await journal.transaction(_record, refused, now)
    return [{**_fields(alert), "where": alert.where} for alert in refused]


async def _record(tx: Transaction, refused: Sequence[RefusedAlert], now: datetime) -> None:
    alike: dict[str, list[RefusedAlert]] = {}
    for alert in refused:
        alike.setdefault(_key(alert) if len(alike) < _MOST_RECORDS else "more", []).append(alert)
    for key, alerts in alike.items():
        fields = _fields(alerts[0])
        facts = {
            "guard_results": [GuardResult(guard=GUARD, result="deny", reason=str(fields["reason"])).model_dump()],
            "alerts": [],
            "alerts_in_all": len(alerts),
            "refused": [alert.model_dump(include={"where", "reason", "labels"}) for alert in alerts[:20]],
        }
        decision = decisions.RecordedDecision(
            id=executions.new_id(now),
            incident=hashlib.sha256(f"{GUARD}\0{key}".encode()).hexdigest()[:20],
            at=now,
            last_at=now,
            action="read",
            body=json.dumps(facts),
            **fields,
        )
        await record_decision(tx, decision)


def _key(alert: RefusedAlert) -> str:
    return json.dumps([alert.labels, alert.resolved, alert.reason], sort_keys=True)


def _fields(alert: RefusedAlert) -> dict[str, Any]:
    name = alert.labels.get("alertname", "")
    # Without the alert's number in the body, which is another one each time.
    path = alert.where.rpartition("]")[2].lstrip(".")
    return {
        "policy": "",
        "service": alert.labels.get("service", ""),
        "environment": alert.labels.get("environment", ""),
        "result": "ignore" if alert.resolved else "deny",
        "guard": GUARD,
        "reason": f"alert {name or 'without a readable name'} cannot be read: {path and f'{path}: '}{alert.reason}",
        "execution": None,
    }

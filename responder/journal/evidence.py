"""What is kept of a service in trouble: asked for once, taken by one worker, found again by its id."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from responder.alerts import Alert
from responder.errors import Conflict
from responder.journal.database import Transaction


async def want(
    tx: Transaction,
    evidence_id: str,
    *,
    policy: str,
    service: str,
    environment: str,
    deployment_id: str,
    alerts: Sequence[Alert],
    at: datetime,
) -> None:
    """Asks for the logs of a service by themselves. Raises Conflict where an alert has had them kept before."""
    where = {"policy": policy, "service": service, "environment": environment}
    asked = json.dumps([alert.model_dump(mode="json") for alert in alerts])
    await tx.all("want_evidence", id=evidence_id, **where, deployment_id=deployment_id, at=at, asked=asked)
    for alert in alerts:
        told = {"fingerprint": alert.fingerprint, "starts_at": alert.starts_at, "evidence": evidence_id}
        if not await tx.one("insert_evidence_episode", **where, **told):
            raise Conflict(f"logs were kept for the alert {alert.name} already")
    tx.notify()

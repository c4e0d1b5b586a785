"""Evidence in the journal: requested once, claimed by one worker, and found by its ID."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from responder.backends.alertmanager.alerts import Alert
from responder.errors import Conflict, Unknown
from responder.journal.database import Row, Transaction


async def request(
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
    """Requests the logs of a service without a rollback. Raises Conflict if an alert has requested them before."""
    where = {"policy": policy, "service": service, "environment": environment}
    as_json = json.dumps([alert.model_dump(mode="json") for alert in alerts])
    await tx.all("request_evidence", id=evidence_id, **where, deployment_id=deployment_id, at=at, alerts=as_json)
    for alert in alerts:
        episode = {"fingerprint": alert.fingerprint, "starts_at": alert.starts_at, "evidence": evidence_id}
        if not await tx.first("insert_evidence_alert", **where, **episode):
            raise Conflict(f"logs were already collected for the alert {alert.name}")
    tx.notify()


async def claim(tx: Transaction, worker: str) -> Row | None:
    """Claims the oldest open request; None if there is none."""
    await tx.lock("evidence")
    row = await tx.first("next_evidence_request", worker=worker)
    if row is not None:
        await tx.all("claim_evidence", id=row["id"], worker=worker)
    return row


async def record(
    tx: Transaction,
    evidence_id: str,
    *,
    execution: str | None,
    policy: str,
    service: str,
    environment: str,
    deployment_id: str,
    state: str,
    at: datetime,
    location: str = "",
    files: int = 0,
    missing: int = 0,
    size: int = 0,
    problem: str = "",
    manifest: str | None = None,
) -> None:
    """Records the result: state `kept`, or `failed` with the problem."""
    where = {"policy": policy, "service": service, "environment": environment, "deployment_id": deployment_id}
    counted = {"files": files, "missing": missing, "bytes": size, "problem": problem, "manifest": manifest}
    await tx.all(
        "record_evidence",
        id=evidence_id,
        execution=execution,
        state=state,
        at=at,
        location=location,
        **where,
        **counted,
    )


async def find(tx: Transaction, evidence_id: str) -> Row:
    """Raises Unknown."""
    row = await tx.first("evidence", id=evidence_id)
    if row is None:
        raise Unknown(f"evidence {evidence_id} does not exist")
    return row


async def needed(tx: Transaction) -> set[str]:
    """The IDs whose evidence must be kept, whatever its age."""
    return {str(row["id"]) for row in await tx.all("evidence_needed")}


async def mark_deleted(tx: Transaction, evidence_id: str) -> None:
    await tx.all("mark_evidence_deleted", id=evidence_id)

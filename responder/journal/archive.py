"""What leaves the journal after its retention: read as records to export, and deleted once they are exported."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from responder.journal.database import Row, Transaction


async def rollbacks(tx: Transaction, before: datetime, most: int) -> list[dict[str, Any]]:
    """Rollbacks that ended before then and can leave, oldest first: each with everything recorded about it."""
    found = []
    for row in await tx.all("executions_to_archive", before=before, most=most):
        events = await tx.all("events_of", execution=row["id"])
        found.append(
            {
                "execution": {name: value for name, value in row.items() if name != "archived_in"},
                "parts": await tx.all("parts_of_execution", execution=row["id"]),
                "alerts": await tx.all("opening_alerts_of", execution=row["id"]),
                "events": [json.loads(event["body"]) for event in events],
                "messages": await tx.all("messages_of", subject=row["id"]),
            }
        )
    return found


async def delete_rollbacks(tx: Transaction, ids: Sequence[str], location: str) -> int:
    """Deletes the details of rollbacks that were exported to `location`; returns of how many.

    Leaves those that another replica archived meanwhile.
    """
    deleted = 0
    for execution_id in ids:
        if await tx.first("mark_archived", execution=execution_id, location=location):
            await tx.all("delete_events", execution=execution_id)
            await tx.all("delete_messages", subject=execution_id)
            await tx.all("delete_thread", subject=execution_id)
            deleted += 1
    return deleted


async def decisions(tx: Transaction, before: datetime, most: int) -> list[dict[str, Any]]:
    """Decisions that were made last before then and that nothing needs, oldest first."""
    rows = await tx.all("decisions_to_archive", before=before, most=most)
    return [{**row, "body": json.loads(row["body"])} for row in rows]


async def delete_decisions(tx: Transaction, exported: Sequence[Row], before: datetime) -> int:
    """Deletes exported decisions, except those that were made again meanwhile; returns how many."""
    deleted = 0
    for row in exported:
        if await tx.first("delete_decision", id=row["id"], last_at=row["last_at"], before=before):
            await tx.all("delete_messages", subject=row["id"])
            await tx.all("delete_thread", subject=row["id"])
            deleted += 1
    return deleted

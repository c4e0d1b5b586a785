"""Evidence is requested once, claimed by one worker, and found again, on either journal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from responder.journal import Database, evidence, executions
from responder.services import rollbacks
from tests.journals import journal, state  # noqa: F401
from tests.responder.examples import accepted, alert


async def test_from_requested_to_deleted(journal: Database) -> None:  # noqa: F811
    now = datetime.now(UTC)
    where = {"policy": "p", "service": "backend", "environment": "production", "deployment_id": "d"}

    async def register(tx: Any) -> None:
        await executions.register(tx, "w1", 60.0, now)
        await executions.register(tx, "w2", 60.0, now)

    async def seen(tx: Any) -> Any:
        where = {"policy": "p", "service": "backend", "environment": "production"}
        since = now - timedelta(hours=1)
        last = await tx.first("last_evidence_of_policy", **where)
        return last["id"], len(await tx.all("evidence_alerts_since", **where, since=since))

    await journal.transaction(register)
    await journal.transaction(evidence.request, "e1", **where, alerts=[alert(starts_at=now)], at=now)
    assert await journal.read(seen) == ("e1", 1)
    row = await journal.transaction(evidence.claim, "w1")
    assert row
    assert (row["id"], row["tries"]) == ("e1", 0)
    assert await journal.transaction(evidence.claim, "w2") is None, "another worker has claimed it"
    assert await journal.read(evidence.needed) == {"e1"}
    done = {**where, "execution": None, "state": "kept", "at": now, "size": 5 << 32, "manifest": "{}"}
    await journal.transaction(evidence.record, "e1", **done)
    await journal.transaction(rollbacks.accept, "r1", accepted(at=now, received_at=now))
    await journal.transaction(evidence.record, "r1", **{**done, "execution": "r1"})
    assert (await journal.read(evidence.find, "r1"))["bytes"] == 5 << 32
    assert await journal.read(evidence.needed) == {"r1"}
    await journal.transaction(evidence.mark_deleted, "e1")
    assert (await journal.read(evidence.find, "e1"))["state"] == "deleted"

"""Puts on record which alerts of a body could not be judged and why, each once however often it is sent."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from responder.alerts import RefusedAlert
from responder.guards import Verdict
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
    return [{**_told(one), "where": one.where} for one in refused]


async def _record(tx: Transaction, refused: Sequence[RefusedAlert], now: datetime) -> None:
    alike: dict[str, list[RefusedAlert]] = {}
    for one in refused:
        alike.setdefault(_key(one) if len(alike) < _MOST_RECORDS else "more", []).append(one)
    for key, some in alike.items():
        told = _told(some[0])
        facts = {
            "verdicts": [Verdict(guard=GUARD, verdict="refuse", reason=str(told["reason"])).model_dump()],
            "alerts": [],
            "alerts_in_all": len(some),
            "refused": [one.model_dump(include={"where", "reason", "labels"}) for one in some[:20]],
        }
        decision = decisions.Decision(
            id=executions.new_id(now),
            incident=hashlib.sha256(f"{GUARD}\0{key}".encode()).hexdigest()[:20],
            at=now,
            last_at=now,
            action="read",
            body=json.dumps(facts),
            **told,
        )
        await decisions.record(tx, decision)


def _key(one: RefusedAlert) -> str:
    return json.dumps([one.labels, one.resolved, one.reason], sort_keys=True)


def _told(one: RefusedAlert) -> dict[str, Any]:
    name = one.labels.get("alertname", "")
    # Without the alert's number in the body, which is another one each time.
    place = one.where.rpartition("]")[2].lstrip(".")
    return {
        "policy": "",
        "service": one.labels.get("service", ""),
        "environment": one.labels.get("environment", ""),
        "verdict": "ignore" if one.resolved else "refuse",
        "guard": GUARD,
        "reason": f"alert {name or 'without a readable name'} cannot be read: {place and f'{place}: '}{one.reason}",
        "execution": None,
    }

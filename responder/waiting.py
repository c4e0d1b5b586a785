"""Refused incidents whose trouble is visible: judged again at once, for Alertmanager repeats an alert after minutes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from responder.alerts import Alert
from responder.clients import Connections
from responder.clients.prometheus import Prometheus
from responder.errors import Halt, Unavailable
from responder.journal import Database, Row, Transaction
from responder.live import ask_alerts
from responder.policies import Incident, Mandate, match_alerts
from responder.trouble import Recordings, questions, visible

_REMEMBERED = timedelta(hours=1)
"""How long a refused incident is looked after: Alertmanager repeats it sooner, as long as it fires."""

_AGAIN = 15.0
"""Seconds until an incident whose trouble stays visible is judged once more: a guard may have been lifted."""

_MOST = 200
"""Incidents looked after at once. In a larger storm the brake holds all of them anyway."""

_NOT_AGAIN = ("known", "mode")
"""What these refuse only another configuration allows, and then Alertmanager's next repeat is soon enough."""


class Waiting:
    """Reads from the journal what was refused, so that it survives a restart and every replica knows it."""

    def __init__(
        self, journal: Database, mandate: Callable[[], Mandate], connections: Callable[[], Connections]
    ) -> None:
        self._journal, self._mandate, self._connections = journal, mandate, connections
        self._judged: dict[str, float] = {}  # incidents whose trouble was visible at the last look, and when judged

    async def due(self) -> list[Incident]:
        """Those to be judged again now: they fire, and their trouble has become visible or has been for a while."""
        mandate = self._mandate()
        incidents = await self._journal.read(_refused, mandate, self._journal.now())
        if not incidents:
            self._judged.clear()
            return []
        try:
            prometheus = await self._connections().to(Prometheus)
            recordings = Recordings(await prometheus.query(" or ".join(questions({}))))
        except (Unavailable, Halt):
            return []  # what nobody can tell is no trouble
        looks = await asyncio.gather(*(visible(one, recordings, mandate, self._connections()) for one in incidents))
        seen = [one for one, look in zip(incidents, looks, strict=True) if look.state == "visible"]
        now, ids = asyncio.get_running_loop().time(), {one.id for one in seen}
        self._judged = {name: at for name, at in self._judged.items() if name in ids}
        due = [one for one in seen if now - self._judged.get(one.id, float("-inf")) >= _AGAIN]
        self._judged |= {one.id: now for one in due}
        lives = await asyncio.gather(*(ask_alerts(one, mandate, self._connections()) for one in due))
        return [one for one, live in zip(due, lives, strict=True) if live.state == "firing"]


async def _refused(tx: Transaction, mandate: Mandate, now: datetime) -> list[Incident]:
    rows = await tx.all("decided_lately", since=now - _REMEMBERED, most=_MOST * 4)
    newest: dict[str, Row] = {}
    for row in rows:
        newest.setdefault(row["incident"], row)
    refused = (r for r in newest.values() if r["verdict"] == "refuse" or r["released"])
    waiting = [row for row in refused if row["released"] or row["guard"] not in _NOT_AGAIN]
    return [one for row in waiting[:_MOST] for one in _incidents(row, mandate, now)]


def _incidents(row: Row, mandate: Mandate, now: datetime) -> Iterable[Incident]:
    """The incident that a decision was about, as the configuration of today sees its alerts."""
    alerts = [Alert(status="firing", **one) for one in json.loads(row["body"]).get("alerts", ())]
    found, _ = match_alerts(alerts, mandate.policies, now, sender="alertmanager")
    return [one for one in found if one.id == row["incident"] and not one.forced]

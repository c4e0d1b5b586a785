"""When alerts began whose sender leaves `startsAt` out, so that sending one again is the same episode."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from responder.backends.alertmanager.alerts import NEVER, Alert, UndatedAlert
from responder.journal.database import Transaction

ENDS_AFTER = timedelta(minutes=5)
"""An alert without `endsAt` that is not sent again within this time is over: Alertmanager's `resolve_timeout`."""

_KEPT = timedelta(days=1)


async def remember(tx: Transaction, alerts: Sequence[Alert], now: datetime) -> list[Alert]:
    """The alerts, those without a time of their own dated by the first time that they were sent."""
    await tx.all("forget_undated_alerts", before=now - _KEPT)
    dated = []
    for alert in alerts:
        if isinstance(alert, UndatedAlert):
            until = now + ENDS_AFTER if alert.ends_at == NEVER else alert.ends_at
            row = await tx.first("date_alert", fingerprint=alert.fingerprint, at=now, until=until)
            alert = _dated(alert, row["starts_at"] if row else now)
        dated.append(alert)
    return dated


async def known(tx: Transaction, alerts: Sequence[Alert], now: datetime) -> list[Alert]:
    """The same without remembering anything."""
    dated = []
    for alert in alerts:
        if isinstance(alert, UndatedAlert):
            row = await tx.first("undated_alert", fingerprint=alert.fingerprint, at=now)
            alert = _dated(alert, row["starts_at"] if row else now)
        dated.append(alert)
    return dated


def _dated(alert: Alert, when: datetime) -> Alert:
    return Alert(**{**dict(alert), "starts_at": when})

"""Start times of alerts without `startsAt`, so that a repeated alert counts as the same one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from responder.backends.alertmanager.alerts import NEVER, Alert, UndatedAlert
from responder.journal.database import Transaction

ENDS_AFTER = timedelta(minutes=5)
"""An alert without `endsAt` ends if it is not repeated for this long: Alertmanager's default `resolve_timeout`."""

_KEPT_FOR = timedelta(days=1)


async def remember(tx: Transaction, alerts: Sequence[Alert], now: datetime) -> list[Alert]:
    """Sets the start of alerts without one to their first arrival since they last ended, and records it."""
    await tx.all("forget_undated_alerts", before=now - _KEPT_FOR)
    dated = []
    for alert in alerts:
        if isinstance(alert, UndatedAlert):
            until = now + ENDS_AFTER if alert.ends_at == NEVER else alert.ends_at
            row = await tx.first("date_alert", fingerprint=alert.fingerprint, at=now, until=until)
            alert = _dated(alert, row["starts_at"] if row else now)
        dated.append(alert)
    return dated


async def known(tx: Transaction, alerts: Sequence[Alert], now: datetime) -> list[Alert]:
    """Like `remember`, without recording anything."""
    dated = []
    for alert in alerts:
        if isinstance(alert, UndatedAlert):
            row = await tx.first("undated_alert", fingerprint=alert.fingerprint, at=now)
            alert = _dated(alert, row["starts_at"] if row else now)
        dated.append(alert)
    return dated


def _dated(alert: Alert, starts_at: datetime) -> Alert:
    return Alert(**{**dict(alert), "starts_at": starts_at})

"""The outbox: notifications are delivered at least once, in order, and by one replica at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from responder.journal.database import Row, Transaction
from responder.rollback.stages import CALLS, Stage

_MOST = 100
"""Notifications that one transaction routes."""


class News(NamedTuple):
    """A notification to route. Its subject is an execution, or a decision that opened none."""

    subject: str
    seq: int  # of the event; 0 for a decision
    stage: Stage
    at: datetime


class Claimed(NamedTuple):
    """The pending messages of one thread. No other replica delivers them until the claim ends."""

    subject: str
    reference: str  # the ID of the subject in the channel; empty before the first delivery
    again: bool  # an earlier attempt may have been delivered
    attempts: int
    messages: tuple[Row, ...]


async def add(tx: Transaction, news: News) -> None:
    """Adds a notification to route, in the transaction of the event or decision behind it."""
    await tx.all("add_to_outbox", **news._asdict())


ChannelsFor = Callable[[Transaction, News], Awaitable[Collection[str]]]
"""The channels that receive a notification, by name."""


async def distribute(tx: Transaction, channels_for: ChannelsFor) -> bool:
    """Routes new notifications to their channels. Returns whether there may be more."""
    await tx.lock("outbox")
    rows = [News(**row) for row in await tx.all("outbox", most=_MOST)]
    for news in rows:
        for channel in await channels_for(tx, news):
            await address(tx, news, channel, str(news.seq))
        await tx.all("delete_from_outbox", subject=news.subject, seq=news.seq)
    return len(rows) == _MOST


async def address(tx: Transaction, news: News, channel: str, occasion: str) -> bool:
    """Adds a message for one channel. Returns False if it exists already."""
    where = {"subject": news.subject, "channel": channel}
    await tx.all("open_thread", **where, at=news.at)
    added = await tx.first("add_message", channel=channel, occasion=occasion, **news._asdict()) is not None
    if added and news.stage in CALLS:  # a page does not wait for the retry of an earlier message
        await tx.all("expedite_thread", **where, at=news.at)
    return added


async def claim(tx: Transaction, channel: str, by: str, now: datetime, seconds: float) -> Claimed | None:
    """Claims the thread of a channel that has waited longest; None if nothing is due."""
    await tx.lock(f"threads of {channel}")
    row = await tx.first("claimable_thread", channel=channel, now=now)
    if row is None:
        return None
    where = {"subject": row["subject"], "channel": channel}
    await tx.all("claim_thread", **where, by=by, until=now + timedelta(seconds=seconds))
    messages = await tx.all("pending_messages", **where)
    return Claimed(row["subject"], row["reference"], row["attempts"] > 0, row["attempts"] + 1, tuple(messages))


async def delivered(
    tx: Transaction,
    claimed: Claimed,
    channel: str,
    by: str,
    *,
    reference: str,
    occasions: Sequence[str],
    superseded: Sequence[str],
    at: datetime,
) -> None:
    where = {"subject": claimed.subject, "channel": channel}
    for state, which in (("delivered", occasions), ("superseded", superseded)):
        for occasion in which:
            await tx.all("resolve_message", **where, occasion=occasion, state=state, at=at)
    await tx.all("thread_delivered", **where, by=by, reference=reference)


async def failed(
    tx: Transaction, claimed: Claimed, channel: str, by: str, *, reference: str, error: str, at: datetime, wait: float
) -> None:
    due = at + timedelta(seconds=wait)
    where = {"subject": claimed.subject, "channel": channel}
    await tx.all("thread_failed", **where, by=by, reference=reference, error=error[:500], at=at, due_at=due)


async def give_up(tx: Transaction, now: datetime, after: float) -> list[Row]:
    """Gives up messages that are older than so many seconds, and returns them."""
    return await tx.all("give_up_messages", now=now, before=now - timedelta(seconds=after))


async def release(tx: Transaction, by: str | None) -> None:
    """Ends the claims of one dispatcher, or all claims if no other process can open the journal."""
    await tx.all("release_threads", by=by)


class Undelivered(NamedTuple):
    """A channel with undelivered messages."""

    channel: str
    pending: int
    since: datetime | None
    given_up: int  # within one day
    error: str
    error_at: datetime | None


async def undelivered(tx: Transaction, now: datetime) -> list[Undelivered]:
    """The channels with messages that are pending, or were given up within a day, and the last error of each."""
    pending = {row["channel"]: row for row in await tx.all("undelivered")}
    lost = {row["channel"]: row["n"] for row in await tx.all("given_up_since", since=now - timedelta(days=1))}
    errors = {row["channel"]: row for row in await tx.all("last_errors")} if pending or lost else {}
    return [
        Undelivered(
            channel,
            pending[channel]["n"] if channel in pending else 0,
            pending[channel]["first_at"] if channel in pending else None,
            lost.get(channel, 0),
            errors[channel]["error"] if channel in errors else "",
            errors[channel]["error_at"] if channel in errors else None,
        )
        for channel in sorted({*pending, *lost})
    ]

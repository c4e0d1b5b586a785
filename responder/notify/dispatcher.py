"""Tells the channels what is in the outbox, each by itself: what hangs or fails there is waited for nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import uuid
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from responder.decisions.policies import PolicySet
from responder.errors import JournalUnavailable, Unknown
from responder.journal import Database, Row, Transaction, executions, outbox
from responder.journal.outbox import Claimed, News
from responder.logging import say
from responder.notify.channel import Channel, ChannelSettings, NotDelivered, redact
from responder.notify.notification import Notification
from responder.notify.render import notification_of, notification_of_decision, severity_of
from responder.notify.routing import Notify, Waits, waits
from responder.rollback.execution import Execution, fold
from responder.transport.background import OnError, run_loop

log = logging.getLogger("responder.notify")

Links = Callable[[Execution], tuple[str, str]]
"""The links that approve and stop an execution as it is now; empty where there is none."""

_MARGIN = 15.0
"""Seconds that a claim outlasts the longest try: nobody else begins while we may still be sending."""
_LONGEST_WAIT = 300.0
_DECISIONS = ("alert", "observed", "refused")


class Dispatcher:
    """One per process. Several share the work by the claims in the journal."""

    def __init__(
        self,
        journal: Database,
        notify: Callable[[], Notify],
        policy_set: Callable[[], PolicySet],
        *,
        links: Links = lambda execution: ("", ""),
        counted: Callable[[str, str], None] = lambda channel, outcome: None,
        on_error: OnError = lambda loop: None,
        poll: float = 1.0,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        self._journal, self._notify, self._mandate = journal, notify, policy_set
        self._links, self._counted, self._poll, self._now = links, counted, poll, now or journal.now
        self._stumbled = on_error
        self._id = uuid.uuid4().hex
        self._claims_of_the_dead = journal.exclusive
        self._stirred = asyncio.Event()
        self._open: dict[str, tuple[ChannelSettings, Channel]] = {}
        self._telling: dict[str, asyncio.Task[None]] = {}
        self._left_alone_until: dict[str, datetime] = {}
        self._called: set[tuple[str, str, str]] = set()

    def stir(self) -> None:
        """Something was committed; what follows from it for people is looked at soon."""
        self._stirred.set()

    async def run(self) -> None:
        """Tells until cancelled, whatever goes wrong."""
        await run_loop("notifications", self._turn, every=self._poll, on_error=self._stumbled, wait=self._pause)

    async def _turn(self) -> None:
        try:
            if self._claims_of_the_dead:  # whoever claimed anything in this file
                await self._journal.transaction(outbox.release, None)
                self._claims_of_the_dead = False
            await self.round()
        except JournalUnavailable as e:
            say(log, "journal unavailable", level=logging.ERROR, reason=str(e))

    async def _pause(self, within: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._stirred.wait()
        self._stirred.clear()

    async def close(self) -> None:
        """Ends what is under way; it stays in the outbox, and others go on with it at once."""
        for task in self._telling.values():
            task.cancel()
        await asyncio.gather(*self._telling.values(), return_exceptions=True)
        with contextlib.suppress(JournalUnavailable):
            await self._journal.transaction(outbox.release, self._id)
        for _, channel in self._open.values():
            await channel.close()
        self._open.clear()

    async def round(self) -> None:
        """Hands out what is new, calls for help, gives up what is too old, and begins to tell what is due."""
        now, notify = self._now(), self._notify()
        pending = await self._journal.read(_look, now, bool(notify.escalate))
        while pending.news and await self._journal.transaction(outbox.distribute, self._heard_by):
            pass
        for subject, waiting in pending.waiting:
            await self._call(notify, subject, waiting, now)
        if pending.oldest and (now - pending.oldest).total_seconds() > notify.give_up_after:
            for row in await self._journal.transaction(outbox.give_up, now, notify.give_up_after):
                self._counted(row["channel"], "given_up")
                say(log, "given up", level=logging.ERROR, **row)
        for name in await self._journal.read(_due, now):
            settings = notify.channels.get(name)
            alone = self._left_alone_until.get(name)
            if settings is None or name in self._telling or (alone and now < alone):
                continue
            task = asyncio.create_task(self._drain(name, settings), name=f"tell-{name}")
            self._telling[name] = task
            task.add_done_callback(partial(self._done, name))

    def _done(self, name: str, task: asyncio.Task[None]) -> None:
        self._telling.pop(name, None)

    async def converged(self) -> None:
        """Waits for all that is being told now."""
        while self._telling:
            await asyncio.gather(*self._telling.values(), return_exceptions=True)
            await asyncio.sleep(0)

    async def _heard_by(self, tx: Transaction, news: News) -> Sequence[str]:
        notify = self._notify()
        if news.stage in _DECISIONS:
            row = await tx.first("decision", id=news.subject)
            labels = [alert["labels"] for alert in json.loads(row["body"]).get("alerts", ())] if row else []
            policy = row["policy"] if row else ""
        else:
            try:
                accepted = await executions.accepted(tx, news.subject)
            except Unknown:
                return ()
            labels, policy = [alert.labels for alert in accepted.alerts], accepted.policy
        named = self._mandate().policy(policy).notify
        return notify.heard_by(news.stage, severity_of(labels, notify.severities), named)

    async def _call(self, notify: Notify, subject: str, waiting: Waits, now: datetime) -> None:
        for name, occasion in notify.overdue(waiting, now):
            if (subject, name, occasion) not in self._called:
                news = News(subject, waiting.seq, "escalated", now)
                if await self._journal.transaction(outbox.address, news, name, occasion):
                    facts: dict[str, Any] = {"channel": name, "execution": subject, "waits_for": waiting.what}
                    say(log, "escalated", level=logging.WARNING, **facts)
                self._called.add((subject, name, occasion))

    async def _drain(self, name: str, settings: ChannelSettings) -> None:
        """Tells one channel what it has not heard, one subject after the other, until it fails."""
        try:
            while True:
                claimed = await self._journal.transaction(
                    outbox.claim, name, self._id, self._now(), settings.timeout + _MARGIN
                )
                if claimed is None or not await self._tell(name, settings, claimed):
                    return
        except JournalUnavailable as e:
            say(log, "journal unavailable", level=logging.ERROR, reason=str(e))
        except Exception:
            log.exception("telling failed", extra={"fields": {"channel": name}})
            self._stumbled("notifications")

    async def _tell(self, name: str, settings: ChannelSettings, claimed: Claimed) -> bool:
        messages = claimed.messages[:1] if settings.every else claimed.messages[::-1]
        notification, message, overtaken = None, None, []
        for message in messages:
            notification = (
                await self._journal.read(self._story, claimed.subject, message)
                if notification is None
                else notification
            )
            if notification is None or notification.occasion != message["occasion"]:
                overtaken.append(message["occasion"])
        reference, occasions = claimed.reference, list[str]()
        if notification is not None:
            notification = notification if settings.links else notification.without_links()
            try:
                async with asyncio.timeout(settings.timeout):
                    channel = await self._channel(name, settings)
                    reference = await channel.deliver(notification, claimed.reference, again=claimed.again)
            except Exception as e:
                await self._failed(name, settings, claimed, e)
                return False
            occasions = [notification.occasion]
        await self._journal.transaction(
            outbox.delivered, claimed, name, self._id, reference=reference, occasions=occasions, superseded=overtaken,
            at=self._now(),
        )  # fmt: skip
        if notification is not None:
            self._counted(name, "delivered")
            say(log, "told", level=logging.DEBUG, channel=name, subject=claimed.subject, stage=notification.stage)
        return True

    async def _failed(self, name: str, settings: ChannelSettings, claimed: Claimed, e: Exception) -> None:
        wait = min(_LONGEST_WAIT, 2.0 ** min(claimed.attempts - 1, 16)) * random.uniform(0.8, 1.2)  # noqa: S311
        now, reference = self._now(), claimed.reference
        why = f"{type(e).__name__}: {e}"  # a bug of ours; it is retried like everything else
        if isinstance(e, TimeoutError):
            why = f"it took longer than {settings.timeout:g} s"
        elif isinstance(e, NotDelivered):
            why, reference = str(e), claimed.reference if e.reference is None else e.reference
            if e.retry_after is not None:
                wait = max(wait, e.retry_after)
                self._left_alone_until[name] = now + timedelta(seconds=e.retry_after)
        why = redact(why, settings.secrets)
        self._counted(name, "failed")
        facts: dict[str, Any] = {"channel": name, "subject": claimed.subject, "reason": why, "tries": claimed.attempts}
        say(log, "not told", level=logging.WARNING, **facts)
        await self._journal.transaction(
            outbox.failed, claimed, name, self._id, reference=reference, error=why, at=now, wait=wait
        )

    async def _channel(self, name: str, settings: ChannelSettings) -> Channel:
        """The open one, or a new one where the configuration has changed."""
        known = self._open.get(name)
        if known and known[0] is settings:
            return known[1]
        channel = settings.open()
        self._open[name] = (settings, channel)
        if known:
            await known[1].close()
        return channel

    async def _story(self, tx: Transaction, subject: str, message: Row) -> Notification | None:
        """What the message says; None where it does not hold any more."""
        severities, stage, occasion = self._notify().severities, message["stage"], message["occasion"]
        if stage in _DECISIONS:
            row = await tx.first("decision", id=subject)
            decided = {**row, "body": json.loads(row["body"])} if row else None
            return (
                notification_of_decision(decided, stage, occasion=occasion, severities=severities) if decided else None
            )
        events = await executions.events_of(tx, subject)
        now = fold(subject, events)
        if stage == "escalated" and now.state not in ("awaiting_approval", "stuck"):
            return None
        decision = await tx.first("decision_of_execution", execution=subject)
        then = events[: message["seq"] + 1]
        notification = notification_of(
            subject,
            then,
            stage,
            occasion=occasion,
            at=message["at"],
            severities=severities,
            guard_results=json.loads(decision["body"]).get("guard_results", ()) if decision else (),
        )
        if now.state != fold(subject, then).state:
            return notification  # what could have been approved or stopped then cannot be now
        approve, stop = self._links(now)
        return notification.model_copy(update={"approve_url": approve, "stop_url": stop})


class _Seen:
    def __init__(self, news: bool, oldest: datetime | None, waiting: list[tuple[str, Waits]]) -> None:
        self.news, self.oldest, self.waiting = news, oldest, waiting


async def _look(tx: Transaction, now: datetime, escalate: bool) -> _Seen:
    news = bool(await tx.all("outbox", most=1))
    pending = await tx.all("undelivered")
    rows = (
        [row for row in await tx.all("open_executions") if row["state"] in ("awaiting_approval", "stuck")]
        if escalate
        else []
    )
    found = [(row["id"], waits(row["id"], await executions.events_of(tx, row["id"]))) for row in rows]
    waiting = [(subject, waiting_since) for subject, waiting_since in found if waiting_since is not None]
    return _Seen(news, min((row["first_at"] for row in pending), default=None), waiting)


async def _due(tx: Transaction, now: datetime) -> list[str]:
    return [row["channel"] for row in await tx.all("channels_due", now=now)]

"""Delivers the notifications of the outbox. Each channel has its own task, so a slow channel delays no other."""

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
from typing import Any, NamedTuple

from foundation.waiting import set_within
from responder.decisions.policy_set import PolicySet
from responder.errors import JournalUnavailable, Unknown
from responder.journal import Database, Row, Transaction, executions, outbox
from responder.journal.outbox import Claimed, News
from responder.logging import say
from responder.notify.channel import Channel, ChannelSettings, NotDelivered, redact
from responder.notify.notification import Notification
from responder.notify.render import notification_of, notification_of_decision, severity_of
from responder.notify.routing import HumanWait, Notify, human_wait
from responder.rollback.execution import Execution, fold
from responder.transport.background import OnError, run_loop

log = logging.getLogger("responder.notify")

Links = Callable[[Execution], tuple[str, str]]
"""The links that approve and stop an execution in its present state; empty if it cannot be approved or stopped."""

_CLAIM_MARGIN = 15.0
"""Seconds that a claim outlasts the timeout of a delivery, so that no other replica starts while this one may send."""
_REST = 0.1
"""Seconds before each round, which serves all news of that time: a rollback has several."""
_LONGEST_PAUSE = 300.0
_OF_DECISIONS = ("alert", "observed", "denied")


class Dispatcher:
    """Delivers notifications until it is closed. Replicas share the work through claims in the journal.

    `links`: adds links to notifications. `counted`: receives channel and outcome (`delivered`, `failed`, `given_up`).
    `on_error`: receives each unexpected error. `poll`: seconds between two polls of the outbox.
    """

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
        self._journal, self._notify, self._policy_set = journal, notify, policy_set
        self._links, self._counted, self._poll, self._now = links, counted, poll, now or journal.now
        self._on_error = on_error
        self._id = uuid.uuid4().hex
        self._stale_claims = journal.exclusive
        self._woken = asyncio.Event()
        self._open: dict[str, tuple[ChannelSettings, Channel]] = {}
        self._deliveries: dict[str, asyncio.Task[None]] = {}
        self._paused_until: dict[str, datetime] = {}
        self._escalated: set[tuple[str, str, str]] = set()

    def wake(self) -> None:
        """Polls the outbox now instead of after the poll interval."""
        self._woken.set()

    async def run(self) -> None:
        """Delivers until cancelled. Unexpected errors are logged, counted and retried."""
        on_error = self._on_error
        await run_loop("notifications", self._turn, every=self._poll, on_error=on_error, wait=self._pause, rest=_REST)

    async def _turn(self) -> None:
        try:
            if self._stale_claims:  # this process has the journal to itself: claims in it are of a crashed process
                await self._journal.transaction(outbox.release, None)
                self._stale_claims = False
            await self.round()
        except JournalUnavailable as e:
            say(log, "journal unavailable", level=logging.ERROR, reason=str(e))

    async def _pause(self, seconds: float) -> None:
        await set_within(self._woken, seconds)
        self._woken.clear()

    async def close(self) -> None:
        """Cancels deliveries in progress and releases their claims, so that other replicas continue at once."""
        for task in self._deliveries.values():
            task.cancel()
        await asyncio.gather(*self._deliveries.values(), return_exceptions=True)
        with contextlib.suppress(JournalUnavailable):
            await self._journal.transaction(outbox.release, self._id)
        for _, channel in self._open.values():
            await channel.close()
        self._open.clear()

    async def round(self) -> None:
        """Routes new notifications, escalates, gives up old ones, and starts the deliveries that are due."""
        now, notify = self._now(), self._notify()
        pending = await self._journal.read(_pending, now, bool(notify.escalate))
        while pending.new and await self._journal.transaction(outbox.distribute, self._recipients):
            pass
        for subject, wait in pending.waits:
            await self._escalate(notify, subject, wait, now)
        if pending.oldest and (now - pending.oldest).total_seconds() > notify.give_up_after:
            for row in await self._journal.transaction(outbox.give_up, now, notify.give_up_after):
                self._counted(row["channel"], "given_up")
                say(log, "notification given up", level=logging.ERROR, **row)
        for name in await self._journal.read(_due, now):
            settings = notify.channels.get(name)
            paused_until = self._paused_until.get(name)
            if settings is None or name in self._deliveries or (paused_until and now < paused_until):
                continue
            task = asyncio.create_task(self._drain(name, settings), name=f"deliver-{name}")
            self._deliveries[name] = task
            task.add_done_callback(partial(self._done, name))

    def _done(self, name: str, task: asyncio.Task[None]) -> None:
        self._deliveries.pop(name, None)

    async def idle(self) -> None:
        """Waits until no delivery is in progress."""
        while self._deliveries:
            await asyncio.gather(*self._deliveries.values(), return_exceptions=True)
            await asyncio.sleep(0)

    async def _recipients(self, tx: Transaction, news: News) -> Sequence[str]:
        notify = self._notify()
        if news.stage in _OF_DECISIONS:
            row = await tx.first("decision", id=news.subject)
            labels = [alert["labels"] for alert in json.loads(row["body"]).get("alerts", ())] if row else []
            policy = row["policy"] if row else ""
        else:
            try:
                accepted = await executions.accepted(tx, news.subject)
            except Unknown:
                return ()
            labels, policy = [alert.labels for alert in accepted.alerts], accepted.policy
        named = self._policy_set().policy(policy).notify
        return notify.channels_for(news.stage, severity_of(labels, notify.severities), named)

    async def _escalate(self, notify: Notify, subject: str, wait: HumanWait, now: datetime) -> None:
        for name, occasion in notify.overdue(wait, now):
            if (subject, name, occasion) not in self._escalated:
                news = News(subject, wait.seq, "escalated", now)
                if await self._journal.transaction(outbox.address, news, name, occasion):
                    fields: dict[str, Any] = {"channel": name, "execution": subject, "waits_for": wait.reason}
                    say(log, "escalated", level=logging.WARNING, **fields)
                self._escalated.add((subject, name, occasion))

    async def _drain(self, name: str, settings: ChannelSettings) -> None:
        """Delivers everything due to one channel, one subject after the other, until a delivery fails."""
        try:
            while True:
                claimed = await self._journal.transaction(
                    outbox.claim, name, self._id, self._now(), settings.timeout + _CLAIM_MARGIN
                )
                if claimed is None or not await self._deliver(name, settings, claimed):
                    return
        except JournalUnavailable as e:
            say(log, "journal unavailable", level=logging.ERROR, reason=str(e))
        except Exception:
            log.exception("delivery crashed", extra={"fields": {"channel": name}})
            self._on_error("notifications")

    async def _deliver(self, name: str, settings: ChannelSettings, claimed: Claimed) -> bool:
        notification, superseded = await self._newest(settings, claimed)
        reference, occasions = claimed.reference, list[str]()
        if notification is not None:
            notification = notification if settings.includes_links else notification.without_links()
            try:
                async with asyncio.timeout(settings.timeout):
                    channel = await self._channel(name, settings)
                    reference = await channel.deliver(notification, claimed.reference, retry=claimed.again)
            except Exception as e:
                await self._failed(name, settings, claimed, e)
                return False
            occasions = [notification.occasion]
        await self._journal.transaction(
            outbox.delivered, claimed, name, self._id, reference=reference, occasions=occasions, superseded=superseded,
            at=self._now(),
        )  # fmt: skip
        if notification is not None:
            self._counted(name, "delivered")
            say(
                log, "notification delivered", level=logging.DEBUG, channel=name, subject=claimed.subject,
                stage=notification.stage,
            )  # fmt: skip
        return True

    async def _newest(self, settings: ChannelSettings, claimed: Claimed) -> tuple[Notification | None, list[str]]:
        """The notification to deliver, and the occasions of those that no longer need delivery."""
        messages = claimed.messages[:1] if settings.every_message else claimed.messages[::-1]
        newest, superseded = None, []
        for message in messages:
            if newest is None:
                newest = await self._journal.read(self._rendered, claimed.subject, message)
            if newest is None or newest.occasion != message["occasion"]:
                superseded.append(message["occasion"])
        return newest, superseded

    async def _failed(self, name: str, settings: ChannelSettings, claimed: Claimed, e: Exception) -> None:
        pause = min(_LONGEST_PAUSE, 2.0 ** min(claimed.attempts - 1, 16)) * random.uniform(0.8, 1.2)  # noqa: S311
        now, reference = self._now(), claimed.reference
        reason = f"{type(e).__name__}: {e}"  # a bug; retried like every failure
        if isinstance(e, TimeoutError):
            reason = f"timed out after {settings.timeout:g} s"
        elif isinstance(e, NotDelivered):
            reason, reference = str(e), claimed.reference if e.reference is None else e.reference
            if e.retry_after is not None:
                pause = max(pause, e.retry_after)
                self._paused_until[name] = now + timedelta(seconds=e.retry_after)
        reason = redact(reason, settings.secrets)
        self._counted(name, "failed")
        fields: dict[str, Any] = {"channel": name, "subject": claimed.subject, "attempts": claimed.attempts}
        say(log, "notification not delivered", level=logging.WARNING, reason=reason, **fields)
        await self._journal.transaction(
            outbox.failed, claimed, name, self._id, reference=reference, error=reason, at=now, wait=pause
        )

    async def _channel(self, name: str, settings: ChannelSettings) -> Channel:
        """The open channel; a new one after its configuration has changed."""
        known = self._open.get(name)
        if known and known[0] is settings:
            return known[1]
        channel = settings.open()
        self._open[name] = (settings, channel)
        if known:
            await known[1].close()
        return channel

    async def _rendered(self, tx: Transaction, subject: str, message: Row) -> Notification | None:
        """The notification of a message; None if what it reports no longer holds."""
        severities, stage, occasion = self._notify().severities, message["stage"], message["occasion"]
        if stage in _OF_DECISIONS:
            row = await tx.first("decision", id=subject)
            if row is None:
                return None
            decision = {**row, "body": json.loads(row["body"])}
            return notification_of_decision(decision, stage, occasion=occasion, severities=severities)
        events = await executions.events_of(tx, subject)
        now = fold(subject, events)
        if stage == "escalated" and now.state not in ("awaiting_approval", "stuck"):
            return None
        decided = await tx.first("decision_of_execution", execution=subject)
        then = events[: message["seq"] + 1]
        notification = notification_of(
            subject,
            then,
            stage,
            occasion=occasion,
            at=message["at"],
            severities=severities,
            guard_results=json.loads(decided["body"]).get("guard_results", ()) if decided else (),
        )
        if now.state != fold(subject, then).state:
            return notification  # the links of that state are no longer valid
        approve, stop = self._links(now)
        return notification.model_copy(update={"approve_url": approve, "stop_url": stop})


class _Pending(NamedTuple):
    new: bool
    oldest: datetime | None
    waits: list[tuple[str, HumanWait]]


async def _pending(tx: Transaction, now: datetime, escalate: bool) -> _Pending:
    new = bool(await tx.all("outbox", most=1))
    undelivered = await tx.all("undelivered")
    rows = await tx.all("open_executions") if escalate else []
    found = [
        (row["id"], human_wait(row["id"], await executions.events_of(tx, row["id"])))
        for row in rows
        if row["state"] in ("awaiting_approval", "stuck")
    ]
    waits = [(subject, wait) for subject, wait in found if wait is not None]
    return _Pending(new, min((row["first_at"] for row in undelivered), default=None), waits)


async def _due(tx: Transaction, now: datetime) -> list[str]:
    return [row["channel"] for row in await tx.all("channels_due", now=now)]

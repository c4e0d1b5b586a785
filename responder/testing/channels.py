"""The contract of a notification channel.

    @pytest.mark.parametrize("law", LAWS)
    async def test_pager(law):
        async with stand_in() as service:
            await law(ChannelCase(service.settings, seen=service.messages, cause=service.cause))

Every law needs a fresh case.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from responder.notify import Channel, ChannelSettings, NotDelivered, Notification
from responder.notify.channel import redact
from responder.testing.expect import expect, expect_error

Trouble = Literal["error", "hang", "lost_response"]
"""`error`: the service rejects the request. `hang`: it never answers. `lost_response`: it acts, then never answers."""

_AT = datetime(2026, 1, 1, tzinfo=UTC)
_MARGIN = 2.0
"""Seconds that a delivery may take beyond its timeout."""


@dataclass(frozen=True)
class ChannelCase:
    """A channel with a stand-in for its service.

    `settings`: a timeout of about a second keeps the suite fast. `seen`: identities of everything that people see, one
    for each message. `cause`: makes the next delivery fail; None for a channel without a service. `secret`: the
    credential that the settings use.
    """

    settings: ChannelSettings
    seen: Callable[[], Collection[Hashable]]
    cause: Callable[[Trouble], None] | None = None
    secret: str = ""


def accepted_rollback() -> Notification:
    """The first notification of a rollback."""
    return Notification(
        subject="e-1", occasion="0", stage="accepted", at=_AT, accepted_at=_AT, service="shop", environment="test",
        policy="shop-down", reason="ShopDown", happened="ShopDown is firing", from_version="2.1", to_version="2.0",
    )  # fmt: skip


def started_rollback() -> Notification:
    """A later notification of the same rollback."""
    later = _AT + timedelta(seconds=5)
    changed = {"occasion": "2", "stage": "started", "at": later, "started_at": later, "happened": "step 1 of 2"}
    return accepted_rollback().model_copy(update=changed)


async def delivers_once(case: ChannelCase) -> None:
    """One delivery is one message, and its reference is text that the journal can keep."""
    async with _opened(case) as channel:
        reference = await channel.deliver(accepted_rollback(), "", retry=False)
    expect(isinstance(reference, str), f"deliver returned {reference!r}; expected a string")
    expect(len(case.seen()) == 1, f"one delivery led to the messages {list(case.seen())}; expected one")


async def recognizes_retries(case: ChannelCase) -> None:
    """A retry after a lost response shows people nothing twice."""
    if case.cause is None:
        return
    async with _opened(case) as channel:
        reference = await channel.deliver(accepted_rollback(), "", retry=False)
        case.cause("lost_response")
        with expect_error(NotDelivered, "a lost response did not raise NotDelivered") as errors:
            await channel.deliver(started_rollback(), reference, retry=False)
        kept = getattr(errors[0], "reference", None)
        await channel.deliver(started_rollback(), reference if kept is None else kept, retry=True)
    seen = list(case.seen())
    expect(len(seen) == len(set(seen)), f"people see a message twice after a retry: {seen}")


async def reports_errors(case: ChannelCase) -> None:
    """A rejected delivery raises NotDelivered. What the dispatcher logs of it shows no secret."""
    if case.cause is None:
        return
    case.cause("error")
    async with _opened(case) as channel:
        with expect_error(NotDelivered, "a rejected delivery did not raise NotDelivered") as errors:
            await channel.deliver(accepted_rollback(), "", retry=False)
    logged = redact(str(errors[0]), case.settings.secrets)
    expect(not case.secret or case.secret not in logged, "an error shows the secret: add it to `secrets`")


async def times_out(case: ChannelCase) -> None:
    """A service that hangs raises NotDelivered within the timeout of the channel."""
    if case.cause is None:
        return
    case.cause("hang")
    async with _opened(case) as channel, asyncio.timeout(case.settings.timeout + _MARGIN):
        with expect_error(NotDelivered, "a hanging service did not raise NotDelivered"):
            await channel.deliver(accepted_rollback(), "", retry=False)


async def hides_secrets(case: ChannelCase) -> None:
    """Neither the text of the settings nor their JSON shows a secret."""
    shown = f"{case.settings!r} {case.settings} {case.settings.model_dump_json()}"
    expect(not case.secret or case.secret not in shown, "the settings show the secret: declare its field as SecretStr")


async def checks_access(case: ChannelCase) -> None:
    """The check of the access passes with a service that works, and sends nothing."""
    async with _opened(case) as channel:
        await channel.check_access()
    expect(not case.seen(), f"check_access led to the messages {list(case.seen())}; expected none")


async def closes_unused(case: ChannelCase) -> None:
    """A channel that has delivered nothing closes, and sends nothing."""
    await case.settings.open().close()
    expect(not case.seen(), f"opening and closing led to the messages {list(case.seen())}; expected none")


LAWS: tuple[Callable[[ChannelCase], Awaitable[None]], ...] = (
    delivers_once,
    recognizes_retries,
    reports_errors,
    times_out,
    hides_secrets,
    checks_access,
    closes_unused,
)


@asynccontextmanager
async def _opened(case: ChannelCase) -> AsyncIterator[Channel]:
    channel = case.settings.open()
    try:
        yield channel
    finally:
        await channel.close()

"""`notify`: sends a test notification through one channel."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path

from foundation.configuration.findings import finding_of
from foundation.configuration.suggestions import meant
from responder.app.loading import load
from responder.errors import ConfigError
from responder.notify import NotDelivered, Notification
from responder.notify.channel import redact


async def test_notification(file: Path, name: str) -> int:
    """Sends one notification marked as a test, without routing. Exit code 1 if it is not delivered."""
    config = load(file)
    channels = config.notify.channels
    if name not in channels:
        raise ConfigError(
            [finding_of(f"no channel {name!r} is configured{meant(name, channels)}", file=str(file), path="notify")]
        )
    settings, now = channels[name], datetime.now(UTC)
    channel = settings.open()
    notification = Notification(
        subject=f"test-{now:%Y%m%d-%H%M%S}", occasion="0", stage="alert", at=now, accepted_at=now, service="",
        environment="", policy="(none)", reason="a test of this channel", happened="No action required.",
    )  # fmt: skip
    try:
        async with asyncio.timeout(settings.timeout):
            await channel.deliver(notification, "", retry=False)
    except (NotDelivered, TimeoutError) as e:
        print(
            f"{name}: {redact(str(e) or f'no answer within {settings.timeout:g} s', settings.secrets)}", file=sys.stderr
        )
        return 1
    finally:
        await channel.close()
    print(f"{name}: test notification delivered")
    return 0

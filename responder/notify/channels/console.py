"""The console: writes each notification as one log line."""

from __future__ import annotations

import logging
import os
import sys
from typing import ClassVar

from pydantic import Field

from foundation.models import StrictModel
from responder.config.text import one_line
from responder.logging import say
from responder.notify.channel import ChannelSettings, NotDelivered
from responder.notify.notification import Notification
from responder.notify.templates import TemplateText, Text

log = logging.getLogger("responder.notifications")


class ConsoleTemplates(StrictModel):
    """Custom text."""

    text: TemplateText | None = Field(default=None, description="The log line")


class ConsoleSettings(ChannelSettings):
    """The log of the responder."""

    every_message: ClassVar[bool] = True

    templates: ConsoleTemplates = ConsoleTemplates()

    def open(self) -> Console:
        return Console(self)


class Console:
    """Writes log lines, without links and without references."""

    def __init__(self, settings: ConsoleSettings) -> None:
        self._text = Text(settings.templates.text, one_line)

    async def close(self) -> None: ...

    async def check_access(self) -> None:
        """Checks standard error, which a service manager may have closed."""
        try:
            os.fstat(sys.stderr.fileno())
        except (OSError, ValueError, AttributeError) as e:
            raise NotDelivered(f"standard error, the target of the log, is closed: {e}") from None

    async def deliver(self, notification: Notification, reference: str, *, retry: bool) -> str:
        text = self._text.of(notification, f"{notification.title}: {notification.happened}")
        level = logging.WARNING if notification.urgent else logging.INFO
        say(log, one_line(text, 1000), level=level, stage=notification.stage, execution=notification.subject)
        return reference

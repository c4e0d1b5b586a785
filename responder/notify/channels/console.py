"""The console: each message as one line of the log, for those who watch the process itself."""

from __future__ import annotations

import logging
import os
import sys
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from responder.config.text import one_line
from responder.logging import say
from responder.notify.channel import ChannelSettings, NotDelivered
from responder.notify.notification import Notification
from responder.notify.templates import TemplateText, Text

log = logging.getLogger("responder.told")


class ConsoleTemplates(BaseModel):
    """A text of your own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: TemplateText | None = Field(default=None, description="The line")


class ConsoleSettings(ChannelSettings):
    """Lines of the log."""

    kind: ClassVar[str] = "console"
    every: ClassVar[bool] = True

    templates: ConsoleTemplates = ConsoleTemplates()

    def open(self) -> Console:
        return Console(self)


class Console:
    """Cannot fail, and needs no reference. Links that approve do not belong into a log."""

    def __init__(self, settings: ConsoleSettings) -> None:
        self._text = Text(settings.templates.text, one_line)

    async def close(self) -> None: ...

    async def check_access(self) -> None:
        """The log goes to standard error, which a service manager may have closed."""
        try:
            os.fstat(sys.stderr.fileno())
        except (OSError, ValueError, AttributeError) as e:
            raise NotDelivered(f"standard error, where the log goes, is closed: {e}") from None

    async def deliver(self, notification: Notification, reference: str, *, again: bool) -> str:
        text = self._text.of(notification, f"{notification.title}: {notification.happened}")
        level = logging.WARNING if notification.urgent else logging.INFO
        say(log, one_line(text, 1000), level=level, stage=notification.stage, execution=notification.subject)
        return reference

"""The interface of a notification channel, and the settings that all channels share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar, Protocol

from pydantic import Field, PrivateAttr

from foundation.durations import Duration
from foundation.models import StrictModel
from foundation.secrets import secret_of
from responder.config.text import one_line
from responder.errors import ResponderError
from responder.notify.notification import Notification
from responder.rollback.stages import STAGES, Stage
from responder.services.service import Name


class NotDelivered(ResponderError):
    """The channel could not deliver the notification. The dispatcher retries it, whatever the reason.

    `reference`: what the channel knows of the subject by now; None keeps the reference of the last delivery.
    `retry_after`: seconds that the service asked us to wait before the next request.
    """

    def __init__(self, message: str, *, reference: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.reference = reference
        self.retry_after = retry_after


class Channel(Protocol):
    """Delivers notifications to one service. Delivering the same notification twice must do no harm.

    `responder.testing.channels` checks an implementation against this interface.
    """

    async def deliver(self, notification: Notification, reference: str, *, retry: bool) -> str:
        """Delivers the notification and returns the reference of its subject.

        The reference names what the service made of it, such as a message ID. It comes back with the next notification
        of the same subject; it is empty with the first. `retry`: an earlier attempt may have got through.
        Raises NotDelivered.
        """

    async def check_access(self) -> None:
        """Connects and authenticates as far as the service allows without sending. Raises NotDelivered."""

    async def close(self) -> None:
        """Closes connections."""


class ChannelSettings(StrictModel, ABC):
    """Which notifications a channel delivers. Channels add where and how."""

    default_stages: ClassVar[tuple[Stage, ...]] = tuple(
        stage for stage in STAGES if stage not in ("denied", "progress")
    )
    every_message: ClassVar[bool] = False
    """Whether to deliver a notification that a later one of the same subject has superseded."""

    name: Name = Field(default="", description="Name in policies and `escalate`; default: the key of the channel")
    severities: tuple[str, ...] = Field(
        default=(),
        description="Severities to deliver; default: all. Alerts without a known severity are always delivered",
    )
    stages: tuple[Stage, ...] | None = Field(
        default=None, description="Stages to deliver; default: those that suit the channel"
    )
    timeout: Duration = Field(default=10.0, gt=0, le=60, description="Timeout of one delivery")
    _credential: str = PrivateAttr(default="")

    @property
    def selected_stages(self) -> tuple[Stage, ...]:
        """The stages that the channel delivers."""
        return self.default_stages if self.stages is None else self.stages

    @property
    def includes_links(self) -> bool:
        """Whether notifications may include the links that approve and stop a rollback."""
        return False

    @property
    def credential(self) -> str:
        """The credential of the channel; empty if it has none."""
        return self._credential

    @property
    def secrets(self) -> tuple[str, ...]:
        """Everything that must not appear in errors and logs."""
        return (self._credential,)

    def read_secret(self, key: str) -> str:
        """The secret of the fields `key` and `<key>_file`, for validators of channels. Raises ValueError."""
        secret = secret_of(self, key)
        if not secret or not secret.isascii() or not secret.isprintable():
            raise ValueError(f"{key} is empty or contains characters other than printable ASCII")
        return secret

    @abstractmethod
    def open(self) -> Channel:
        """The channel. It connects with the first delivery."""


def redact(text: str, secrets: Iterable[str]) -> str:
    """The text on one line of at most 300 characters, with *** in place of each secret."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "***")
    return one_line(text, 300)

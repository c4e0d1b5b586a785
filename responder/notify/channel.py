"""What every channel has: a name, who hears what by it, secrets that never show, and one verb."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, Protocol

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from responder.config.durations import Duration
from responder.config.text import one_line
from responder.errors import ResponderError
from responder.notify.notification import Notification
from responder.rollback.stages import STAGES, Stage
from responder.services.service import Name


class NotDelivered(ResponderError):
    """The message did not get through. Whatever the reason, it is tried again.

    `reference` is what was won before it failed, and `retry_after` how many seconds the other side wants to be left
    alone.
    """

    def __init__(self, message: str, *, reference: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.reference = reference
        self.retry_after = retry_after


class Channel(Protocol):
    """One way to people. It may be called again with what it has told already: telling it twice does no harm."""

    async def deliver(self, notification: Notification, reference: str, *, again: bool) -> str:
        """Tells the notification; returns by what it is known there, which comes back as `reference` with the next one.

        `again` says that an earlier try may have come through. Raises NotDelivered.
        """

    async def check_access(self) -> None:
        """Connects and authenticates as far as the protocol allows without sending a message. Raises NotDelivered."""

    async def close(self) -> None: ...


class ChannelSettings(BaseModel, ABC):
    """Who hears what by it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: ClassVar[str]
    usual: ClassVar[tuple[Stage, ...]] = tuple(s for s in STAGES if s not in ("refused", "progress"))
    every: ClassVar[bool] = False
    """Whether each message counts, also one that a later one has overtaken."""

    name: Name = Field(default="", description="What policies and `escalate` call it; the key where there is one only")
    severities: tuple[str, ...] = Field(
        default=(), description="Only of alerts of these severities. What has none, or an unknown one, is always told"
    )
    stages: tuple[Stage, ...] | None = Field(default=None, description="Only these stages; default: those that fit it")
    timeout: Duration = Field(default=10.0, gt=0, le=60, description="Longest that one message may take")

    @property
    def called(self) -> str:
        return self.name or self.kind

    @property
    def told_stages(self) -> tuple[Stage, ...]:
        return self.usual if self.stages is None else self.stages

    @property
    def links(self) -> bool:
        """Whether those who read it may be handed the links that approve and stop."""
        return False

    @abstractmethod
    def open(self) -> Channel:
        """The channel itself; nothing is connected until it is used."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never show in an error."""
        return ()


def secret_of(given: SecretStr | None, file: Path | None, what: str) -> str:
    """The secret itself, from the value or the file. Raises ValueError where there is not exactly one."""
    if (given is None) == (file is None):
        raise ValueError(f"needs exactly one of {what}, {what}_file")
    if file is None:
        secret = given.get_secret_value() if given else ""
    else:
        try:
            secret = file.read_text().strip()
        except (OSError, UnicodeDecodeError) as e:
            raise ValueError(f"{what}_file: {file} cannot be read: {getattr(e, 'strerror', None) or e}") from None
    if not secret or not secret.isascii() or not secret.isprintable():
        raise ValueError(f"{what} is empty, or holds something other than one secret")
    return secret


def redact(text: str, secrets: Iterable[str]) -> str:
    """One line without any of the secrets."""
    for secret in sorted((s for s in secrets if s), key=len, reverse=True):
        text = text.replace(secret, "***")
    return one_line(text, 300)

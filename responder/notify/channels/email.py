"""E-mail: one thread for each execution, as text and HTML, over TLS. Labels cannot add headers or markup."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from importlib.resources import files
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import aiosmtplib
from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    SecretStr,
    model_validator,
)

from foundation.models import StrictModel
from foundation.secrets import SecretFile
from responder.config.text import one_line
from responder.notify.channel import ChannelSettings, NotDelivered
from responder.notify.notification import Notification
from responder.notify.templates import TemplateText, Text
from responder.rollback.stages import CALLS, ENDS, Stage


def _address(text: str) -> str:
    try:
        address = Address(addr_spec=text)
    except (ValueError, IndexError, TypeError, MessageError):
        address = Address()
    if not address.username or not address.domain or not text.isascii() or not text.isprintable():
        raise ValueError(f"{text!r} is not an address such as oncall@example.com")
    return text


Mailbox = Annotated[str, AfterValidator(_address)]


class EmailTemplates(StrictModel):
    """Custom texts."""

    subject: TemplateText | None = Field(default=None, description="Subject; some clients split a thread if it changes")
    text: TemplateText | None = Field(default=None, description="Plain text part")
    html: TemplateText | None = Field(default=None, description="HTML part")


class EmailSettings(ChannelSettings):
    """E-mail by SMTP."""

    model_config = ConfigDict(populate_by_name=True)

    default_stages: ClassVar[tuple[Stage, ...]] = (*CALLS, "reverting", *ENDS)

    host: str = Field(min_length=1, description="Host of the SMTP server")
    port: int | None = Field(
        default=None, ge=1, le=65535, description="Default: 587 for starttls, 465 for tls, 25 for none"
    )
    security: Literal["starttls", "tls", "none"] = Field(
        default="starttls", description="Encryption; `none` only for a loopback address"
    )
    ca_file: Path | None = Field(default=None, description="CA certificates to trust instead of the system's")
    username: str = Field(default="", description="User to log in as; empty: no login")
    password: SecretStr | None = Field(default=None, description="Password, such as ${SMTP_PASSWORD}")
    password_file: SecretFile | None = Field(default=None, description="File that holds the password")
    sender: Mailbox = Field(alias="from", description="Sender, such as rollbacks@example.com")
    to: Annotated[tuple[Mailbox, ...], Field(min_length=1, description="Recipients, such as [oncall@example.com]")]
    show_links: bool = Field(default=True, description="Include links to approve and stop")
    templates: EmailTemplates = EmailTemplates()

    @model_validator(mode="after")
    def _fits(self) -> EmailSettings:
        if self.security == "none" and not _is_loopback(self.host):
            raise ValueError("security: none is only for a server on a loopback address")
        if self.username:
            self._credential = self.read_secret("password")
        elif self.password is not None or self.password_file is not None:
            raise ValueError("a password needs a username")
        if self.ca_file is not None:
            try:
                ssl.create_default_context(cafile=self.ca_file)
            except (OSError, ssl.SSLError) as e:
                raise ValueError(f"ca_file: {self.ca_file} holds no certificates: {e.strerror or e}") from None
        return self

    @property
    def includes_links(self) -> bool:
        return self.show_links

    def open(self) -> Email:
        return Email(self)


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=ca_file)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    return made


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Email:
    """Reference: `{"root": …, "left": […]}`: the first Message-ID, and recipients without the current message."""

    def __init__(self, settings: EmailSettings) -> None:
        self._settings = settings
        self._tls: ssl.SSLContext | None = None
        self._default_html = Text(files("responder.notify.channels").joinpath("email.html").read_text(), None)
        self._html = Text(settings.templates.html, None)
        self._text = Text(settings.templates.text, _plain)
        self._subject = Text(settings.templates.subject, _plain)

    async def close(self) -> None: ...

    async def check_access(self) -> None:
        """Connects and logs in."""
        async with self._session():
            pass

    async def deliver(self, notification: Notification, reference: str, *, retry: bool) -> str:
        known = json.loads(reference) if reference else {}
        root = known.get("root", "")
        left = known["left"] if known.get("of") == notification.occasion else list(self._settings.to)
        message = self.message(notification, root)
        root = root or message["Message-ID"]
        async with self._session() as smtp:
            refused, _ = await smtp.sendmail(self._settings.sender, left, message.as_bytes(), mail_options=[])
        if refused:
            left = [recipient for recipient in left if recipient in refused]
            why = "; ".join(f"{recipient}: {answer.code} {answer.message}" for recipient, answer in refused.items())
            kept = json.dumps({"root": root, "of": notification.occasion, "left": left})
            raise NotDelivered(f"rejected for some recipients: {one_line(why, 200)}", reference=kept)
        return json.dumps({"root": root})

    def message(self, notification: Notification, root: str) -> EmailMessage:
        """The message. Retries of a notification have the same Message-ID."""
        domain = self._settings.sender.rpartition("@")[2]
        message = EmailMessage(policy=SMTP)
        subject = one_line(self._subject.of(notification, notification.topic), 200).strip()
        message["Subject"] = f"Re: {subject}" if root else subject
        message["From"] = self._settings.sender
        message["To"] = ", ".join(self._settings.to)
        message["Date"] = notification.at
        first = f"<{notification.subject}@{domain}>"
        message["Message-ID"] = f"<{notification.subject}.{notification.occasion}@{domain}>" if root else first
        if root:
            message["In-Reply-To"] = message["References"] = root
        message["Auto-Submitted"] = "auto-generated"  # suppresses auto-replies
        if notification.urgent:
            message["Importance"] = "high"
        message.set_content(self._text.of(notification, _default_text(notification)) + "\n")
        html = self._html.of(notification, self._default_html.of(notification, ""))
        message.add_alternative(html, subtype="html")
        return message

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[aiosmtplib.SMTP]:
        """A session in which errors are NotDelivered."""
        settings = self._settings
        if settings.security != "none" and self._tls is None:
            # Once and in a thread: loading the system certificates blocks.
            self._tls = await asyncio.to_thread(_tls, settings.ca_file)
        smtp = aiosmtplib.SMTP(
            hostname=settings.host,
            port=settings.port or {"starttls": 587, "tls": 465, "none": 25}[settings.security],
            use_tls=settings.security == "tls",
            start_tls=settings.security == "starttls",
            tls_context=self._tls,
            timeout=settings.timeout,
        )
        try:
            await smtp.connect()
            if settings.username:
                await smtp.login(settings.username, settings.credential)
            yield smtp
        except (aiosmtplib.SMTPException, OSError, ValueError) as e:
            raise NotDelivered(_reason(settings.host, e)) from None
        finally:
            smtp.close()  # without QUIT: a QUIT that hangs must not cause a second delivery


def _reason(host: str, error: Exception) -> str:
    match error:
        case aiosmtplib.SMTPRecipientsRefused():
            refused = "; ".join(
                f"{refusal.recipient}: {refusal.code} {refusal.message}" for refusal in error.recipients
            )
            return f"{host} rejected every recipient: {one_line(refused, 200)}"
        case aiosmtplib.SMTPResponseException():
            return f"{host} answered {error.code}: {one_line(error.message, 200)}"
        case TimeoutError():
            return f"{host} did not answer in time"
    return f"{host}: {type(error).__name__}: {one_line(error, 200)}"


def _plain(text: str) -> str:
    """One line without control characters."""
    return one_line(text, 2000)


def _default_text(notification: Notification) -> str:
    lines = [notification.title, "", _plain(notification.happened), ""]
    lines += [f"Reason: {_plain(notification.reason)}"] if notification.reason not in notification.happened else []
    lines += [f"Approve: {notification.approve_url}"] if notification.approve_url else []
    lines += [f"Stop: {notification.stop_url}"] if notification.stop_url else []
    lines += [f"Command: {notification.command}"] if notification.command else []
    if notification.steps:
        lines += ["", "Steps:"]
        lines += [
            f"  {n}. [{step.state}] {_plain(step.title)}" + (f": {_plain(step.note)}" if step.note else "")
            for n, step in enumerate(notification.steps, 1)
        ]
    if notification.remains:
        lines += ["", "What remains:", *(f"- {_plain(remaining)}" for remaining in notification.remains)]
    if notification.notes:
        lines += ["", *(f"Note: {_plain(note)}" for note in notification.notes)]
    if notification.alerts:
        lines += ["", "Alerts:"]
        lines += [
            f"  {_plain(alert.name)} since {alert.starts_at:%H:%M:%S} UTC"
            + (f": {_plain(alert.summary)}" if alert.summary else "")
            for alert in notification.alerts
        ]
    if notification.evidence:
        lines += ["", *(f"Evidence: {_plain(location)}" for location in notification.evidence)]
    lines += ["", f"{notification.subject} · policy {_plain(notification.policy)}"]
    return "\n".join(_plain(line) if "\n" in line else line for line in lines)

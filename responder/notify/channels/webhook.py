"""A signed webhook: every message as JSON, with a signature over its time and body, and an id that repeats keep."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import time
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PrivateAttr,
    SecretStr,
    TypeAdapter,
    model_validator,
)

from foundation.secret_files import SecretFile
from responder.notify.channel import ChannelSettings, secret_of
from responder.notify.http import Api
from responder.notify.notification import Notification
from responder.notify.templates import BadTemplate, TemplateText, filled

_SHORTEST_SECRET = 16
_TEMPLATE: TypeAdapter[str] = TypeAdapter(TemplateText)


def _templates(value: JsonValue) -> JsonValue:
    """Every text in it is a template, so what is made of it is always JSON."""
    if isinstance(value, str):
        _TEMPLATE.validate_python(value)
    elif isinstance(value, dict):
        for name, item in value.items():
            _told_where(name, item)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            _told_where(f"[{number}]", item)
    return value


def _told_where(name: str, value: JsonValue) -> None:
    try:
        _templates(value)
    except ValueError as e:
        why = e.errors()[0]["ctx"]["error"] if hasattr(e, "errors") else e
        raise ValueError(f"{name}: {why}") from None


class WebhookTemplates(BaseModel):
    """A body of your own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    body: Annotated[JsonValue, AfterValidator(_templates)] = Field(
        default=None, description="YAML of the shape that is wanted; every text in it is a template"
    )


class WebhookSettings(ChannelSettings):
    """Where to, and the secret that both sides know."""

    kind: ClassVar[str] = "webhook"
    every: ClassVar[bool] = True

    url: SecretStr | None = Field(default=None, description="Where it is posted to, as ${HOOK_URL}")
    url_file: SecretFile | None = Field(default=None, description="File that holds the URL")
    secret: SecretStr | None = Field(default=None, description="What it is signed with; at least 16 characters")
    secret_file: SecretFile | None = Field(default=None, description="File that holds the secret")
    headers: dict[str, SecretStr] = Field(default={}, description="Sent with it, as Authorization")
    show_links: bool = Field(default=False, description="Whether the links that approve and stop are in it")
    templates: WebhookTemplates = WebhookTemplates()
    _url: str = PrivateAttr(default="")
    _secret: str = PrivateAttr(default="")

    @model_validator(mode="after")
    def _read(self) -> WebhookSettings:
        self._url = secret_of(self.url, self.url_file, "url")
        if not self._url.startswith(("https://", "http://")):
            raise ValueError("url is not a URL")
        self._secret = secret_of(self.secret, self.secret_file, "secret")
        if len(self._secret) < _SHORTEST_SECRET:
            raise ValueError(f"a secret has at least {_SHORTEST_SECRET} characters")
        return self

    @property
    def links(self) -> bool:
        return self.show_links

    @property
    def secrets(self) -> tuple[str, ...]:
        return (self._url, self._secret, *(value.get_secret_value() for value in self.headers.values()))

    @property
    def target(self) -> tuple[str, bytes]:
        """URL and key."""
        return self._url, self._secret.encode()

    def open(self) -> Webhook:
        return Webhook(self)


def sign(key: bytes, timestamp: str, body: bytes) -> str:
    """What `X-Responder-Signature` holds."""
    return "sha256=" + hmac.new(key, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


class Webhook:
    """Nothing is known of it there, so there is no reference."""

    def __init__(self, settings: WebhookSettings) -> None:
        self._url, self._key = settings.target
        self._api = Api(settings.timeout, {name: value.get_secret_value() for name, value in settings.headers.items()})
        self._body = settings.templates.body

    async def close(self) -> None:
        await self._api.close()

    async def check_access(self) -> None:
        """A webhook cannot be asked anything without telling it something: it is only connected to."""
        await self._api.connect(self._url)

    async def deliver(self, notification: Notification, reference: str, *, again: bool) -> str:
        body = json.dumps(self._told(notification), ensure_ascii=False).encode()
        timestamp = str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "X-Responder-Delivery": f"{notification.subject}/{notification.occasion}",
            "X-Responder-Timestamp": timestamp,
            "X-Responder-Signature": sign(self._key, timestamp, body),
        }
        await self._api.ask("POST", self._url, unread=True, data=body, headers=headers)
        return reference

    def _told(self, notification: Notification) -> Any:
        if self._body is not None:
            with contextlib.suppress(BadTemplate):
                return _filled(self._body, notification)
        fields = notification.model_dump(mode="json", exclude={"occasion"})
        return {
            "version": 1,
            "title": notification.title,
            "urgent": notification.urgent,
            "over": notification.over,
            **fields,
        }


def _filled(value: Any, notification: Notification) -> Any:
    if isinstance(value, str):
        return filled(value, str, notification)
    if isinstance(value, dict):
        return {name: _filled(item, notification) for name, item in value.items()}
    return [_filled(item, notification) for item in value] if isinstance(value, list) else value

"""A webhook: posts each notification as JSON, signed if it has a secret, with a delivery ID that retries keep."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import time
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    Field,
    JsonValue,
    PrivateAttr,
    SecretStr,
    TypeAdapter,
    model_validator,
)

from foundation.models import StrictModel
from foundation.secrets import SecretFile
from responder.notify.channel import ChannelSettings
from responder.notify.http import Api
from responder.notify.notification import Notification
from responder.notify.templates import BadTemplate, TemplateText, rendered

_MIN_SECRET = 16
_TEMPLATE: TypeAdapter[str] = TypeAdapter(TemplateText)


def _templates(value: JsonValue) -> JsonValue:
    """Validates every text in the value as a template."""
    if isinstance(value, str):
        _TEMPLATE.validate_python(value)
    elif isinstance(value, dict):
        for name, item in value.items():
            _located(name, item)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            _located(f"[{number}]", item)
    return value


def _located(name: str, value: JsonValue) -> None:
    try:
        _templates(value)
    except ValueError as e:
        problem = e.errors()[0]["ctx"]["error"] if hasattr(e, "errors") else e
        raise ValueError(f"{name}: {problem}") from None


class WebhookTemplates(StrictModel):
    """Custom body."""

    body: Annotated[JsonValue, AfterValidator(_templates)] = Field(
        default=None, description="The body as YAML; every text in it is a template"
    )


class WebhookSettings(ChannelSettings):
    """Webhooks, signed if they have a secret."""

    every_message: ClassVar[bool] = True

    url: SecretStr | None = Field(default=None, description="URL to post to, such as ${HOOK_URL}")
    url_file: SecretFile | None = Field(default=None, description="File that holds the URL")
    secret: SecretStr | None = Field(
        default=None, description="Key of the signature, at least 16 characters; default: unsigned"
    )
    secret_file: SecretFile | None = Field(default=None, description="File that holds the secret")
    headers: dict[str, SecretStr] = Field(default={}, description="Additional headers, such as Authorization")
    show_links: bool = Field(default=False, description="Include links to approve and stop")
    templates: WebhookTemplates = WebhookTemplates()
    _url: str = PrivateAttr(default="")

    @model_validator(mode="after")
    def _read(self) -> WebhookSettings:
        self._url = self.read_secret("url")
        if not self._url.startswith(("https://", "http://")):
            raise ValueError("url is not a URL")
        if self.secret is None and self.secret_file is None:
            return self
        self._credential = self.read_secret("secret")
        if len(self._credential) < _MIN_SECRET:
            raise ValueError(f"secret is too short: at least {_MIN_SECRET} characters")
        return self

    @property
    def includes_links(self) -> bool:
        return self.show_links

    @property
    def secrets(self) -> tuple[str, ...]:
        return (self._url, self._credential, *(value.get_secret_value() for value in self.headers.values()))

    @property
    def target(self) -> tuple[str, bytes]:
        """The URL, and the key of the signature; empty if there is none."""
        return self._url, self._credential.encode()

    def open(self) -> Webhook:
        return Webhook(self)


def sign(key: bytes, timestamp: str, body: bytes) -> str:
    """The value of the header `X-Responder-Signature`."""
    return "sha256=" + hmac.new(key, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


class Webhook:
    """Posts notifications. Receivers recognize retries by the delivery ID; there is no reference."""

    def __init__(self, settings: WebhookSettings) -> None:
        self._url, self._key = settings.target
        self._api = Api(settings.timeout, {name: value.get_secret_value() for name, value in settings.headers.items()})
        self._body = settings.templates.body

    async def close(self) -> None:
        await self._api.close()

    async def check_access(self) -> None:
        """Connects only: any request would be a delivery."""
        await self._api.connect(self._url)

    async def deliver(self, notification: Notification, reference: str, *, retry: bool) -> str:
        body = json.dumps(self._body_of(notification), ensure_ascii=False).encode()
        timestamp = str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "X-Responder-Delivery": f"{notification.subject}/{notification.occasion}",
            "X-Responder-Timestamp": timestamp,
        }
        if self._key:
            headers["X-Responder-Signature"] = sign(self._key, timestamp, body)
        await self._api.request("POST", self._url, ignore_body=True, data=body, headers=headers)
        return reference

    def _body_of(self, notification: Notification) -> Any:
        if self._body is not None:
            with contextlib.suppress(BadTemplate):
                return _render_body(self._body, notification)
        fields = notification.model_dump(mode="json", exclude={"occasion"})
        return {
            "version": 1,
            "title": notification.title,
            "urgent": notification.urgent,
            "over": notification.over,
            **fields,
        }


def _render_body(value: Any, notification: Notification) -> Any:
    if isinstance(value, str):
        return rendered(value, str, notification)
    if isinstance(value, dict):
        return {name: _render_body(item, notification) for name, item in value.items()}
    return [_render_body(item, notification) for item in value] if isinstance(value, list) else value

"""Grafana: one annotation an execution, from its first step to its end, wherever its tags are shown."""

from __future__ import annotations

from datetime import datetime
from html import escape
from typing import Any, ClassVar
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, PrivateAttr, SecretStr, model_validator

from foundation.secret_files import SecretFile
from responder.config.text import one_line
from responder.notify.channel import ChannelSettings, NotDelivered, secret_of
from responder.notify.http import Api
from responder.notify.notification import Notification
from responder.notify.templates import TemplateText, Text
from responder.rollback.stages import ENDS, Stage


class GrafanaTemplates(BaseModel):
    """A text of your own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: TemplateText | None = Field(default=None, description="The text of the annotation, in HTML")


class GrafanaSettings(ChannelSettings):
    """Grafana's HTTP API, with a service account that may write annotations."""

    kind: ClassVar[str] = "grafana"
    usual: ClassVar[tuple[Stage, ...]] = ("started", "reverting", "stuck", *ENDS)

    url: HttpUrl = Field(description="Where Grafana is, as https://grafana.example")
    token: SecretStr | None = Field(default=None, description="Token of a service account, as ${GRAFANA_TOKEN}")
    token_file: SecretFile | None = Field(default=None, description="File that holds the token")
    dashboard: str = Field(default="", description="uid of the only dashboard that shows it; default: all, by the tags")
    tags: tuple[str, ...] = Field(default=("rollback",), description="Besides exec:<id>, the service and environment")
    templates: GrafanaTemplates = GrafanaTemplates()
    _secret: str = PrivateAttr(default="")

    @model_validator(mode="after")
    def _read(self) -> GrafanaSettings:
        self._secret = secret_of(self.token, self.token_file, "token")
        return self

    @property
    def secrets(self) -> tuple[str, ...]:
        return (self._secret,)

    @property
    def secret(self) -> str:
        return self._secret

    def open(self) -> Grafana:
        return Grafana(self)


class Grafana:
    """Reference: the id of the annotation."""

    def __init__(self, settings: GrafanaSettings) -> None:
        self._settings = settings
        self._base = f"{str(settings.url).rstrip('/')}/api"
        self._api = Api(settings.timeout, {"Authorization": f"Bearer {settings.secret}"})
        self._text = Text(settings.templates.text, None)

    async def close(self) -> None:
        await self._api.close()

    async def check_access(self) -> None:
        await self._api.ask("GET", f"{self._base}/org")
        await self._api.ask("GET", f"{self._base}/annotations", params={"limit": "1"})
        if self._settings.dashboard:
            await self._api.ask("GET", f"{self._base}/dashboards/uid/{quote(self._settings.dashboard, safe='')}")
        # Not every version says what the token may do.
        url = f"{self._base}/access-control/user/permissions"
        rights = (await self._api.ask("GET", url, fine=(401, 403, 404))).body
        if isinstance(rights, dict) and any(":" in permission for permission in rights):
            missing = [
                permission for permission in ("annotations:create", "annotations:write") if permission not in rights
            ]
            if missing:
                raise NotDelivered(
                    f"the token of the service account lacks {', '.join(missing)}: give it the role Editor"
                )

    async def deliver(self, notification: Notification, reference: str, *, again: bool) -> str:
        annotation: dict[str, Any] = {"text": self._told(notification), "tags": self._tags(notification)}
        if notification.ended_at:
            annotation["timeEnd"] = _milliseconds(notification.ended_at)
        # Between making it and keeping its id we may have died: it carries a tag by which it is found.
        known = reference or await self._find(notification)
        if known:
            patched = await self._api.ask("PATCH", f"{self._base}/annotations/{known}", fine=(404,), json=annotation)
            if patched.status != 404:  # else somebody has deleted it
                return known
        created = {"time": _milliseconds(notification.started_at or notification.accepted_at), **annotation}
        if self._settings.dashboard:
            created["dashboardUID"] = self._settings.dashboard
        body = (await self._api.ask("POST", f"{self._base}/annotations", json=created)).body
        if not isinstance(body, dict) or "id" not in body:
            raise NotDelivered("Grafana made an annotation and did not say which")
        return str(body["id"])

    async def _find(self, notification: Notification) -> str:
        query = {"tags": f"exec:{notification.subject}", "type": "annotation", "limit": "10"}
        found = (await self._api.ask("GET", f"{self._base}/annotations", params=query)).body
        if not isinstance(found, list):  # what cannot be read is no reason to make a second one
            raise NotDelivered("Grafana's answer is no list")
        if found and not (isinstance(found[0], dict) and "id" in found[0]):
            raise NotDelivered("Grafana's answer lists something else than annotations")
        return str(found[0]["id"]) if found else ""

    def _tags(self, notification: Notification) -> list[str]:
        about = (f"exec:{notification.subject}", notification.service, notification.environment, notification.outcome)
        return [tag for tag in dict.fromkeys((*self._settings.tags, *about)) if tag]

    def _told(self, notification: Notification) -> str:
        usual = f"<b>{escape(one_line(notification.title, 300))}</b><br>{escape(one_line(notification.happened, 1000))}"
        return self._text.of(notification, usual)


def _milliseconds(when: datetime) -> int:
    return int(when.timestamp() * 1000)

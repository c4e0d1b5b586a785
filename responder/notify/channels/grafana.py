"""Grafana: one annotation for each execution, from its first step to its end."""

from __future__ import annotations

from datetime import datetime
from html import escape
from typing import Any, ClassVar
from urllib.parse import quote

from pydantic import Field, HttpUrl, SecretStr, model_validator

from foundation.models import StrictModel
from foundation.secrets import SecretFile
from responder.config.text import one_line
from responder.notify.channel import ChannelSettings, NotDelivered
from responder.notify.http import Api
from responder.notify.notification import Notification
from responder.notify.templates import TemplateText, Text
from responder.rollback.stages import ENDS, Stage


class GrafanaTemplates(StrictModel):
    """Custom text."""

    text: TemplateText | None = Field(default=None, description="The text of the annotation, in HTML")


class GrafanaSettings(ChannelSettings):
    """Grafana annotations.

    Needs a service account that may write annotations.
    """

    default_stages: ClassVar[tuple[Stage, ...]] = ("started", "reverting", "stuck", *ENDS)

    url: HttpUrl = Field(description="URL of Grafana, such as https://grafana.example")
    token: SecretStr | None = Field(default=None, description="Token of a service account, such as ${GRAFANA_TOKEN}")
    token_file: SecretFile | None = Field(default=None, description="File that holds the token")
    dashboard: str = Field(default="", description="Dashboard UID; default: all dashboards, by tags")
    tags: tuple[str, ...] = Field(
        default=("rollback",), description="Tags besides exec:ID, service, environment and outcome"
    )
    templates: GrafanaTemplates = GrafanaTemplates()

    @model_validator(mode="after")
    def _read(self) -> GrafanaSettings:
        self._credential = self.read_secret("token")
        return self

    def open(self) -> Grafana:
        return Grafana(self)


class Grafana:
    """Reference: the ID of the annotation."""

    def __init__(self, settings: GrafanaSettings) -> None:
        self._settings = settings
        self._base = f"{str(settings.url).rstrip('/')}/api"
        self._api = Api(settings.timeout, {"Authorization": f"Bearer {settings.credential}"})
        self._text = Text(settings.templates.text, None)

    async def close(self) -> None:
        await self._api.close()

    async def check_access(self) -> None:
        await self._api.request("GET", f"{self._base}/org")
        await self._api.request("GET", f"{self._base}/annotations", params={"limit": "1"})
        if self._settings.dashboard:
            await self._api.request("GET", f"{self._base}/dashboards/uid/{quote(self._settings.dashboard, safe='')}")
        # Grafana before 9 does not report permissions.
        url = f"{self._base}/access-control/user/permissions"
        permissions = (await self._api.request("GET", url, accepted=(401, 403, 404))).data
        if isinstance(permissions, dict) and any(":" in permission for permission in permissions):
            missing = [
                permission
                for permission in ("annotations:create", "annotations:write")
                if permission not in permissions
            ]
            if missing:
                raise NotDelivered(
                    f"the token of the service account lacks {', '.join(missing)}: give it the role Editor"
                )

    async def deliver(self, notification: Notification, reference: str, *, retry: bool) -> str:
        annotation: dict[str, Any] = {"text": self._text_of(notification), "tags": self._tags(notification)}
        if notification.ended_at:
            annotation["timeEnd"] = _milliseconds(notification.ended_at)
        # A crash may have lost the ID of an annotation that exists: the tag exec:ID finds it.
        existing = reference or await self._find(notification)
        if existing:
            patched = await self._api.request(
                "PATCH", f"{self._base}/annotations/{existing}", accepted=(404,), json=annotation
            )
            if patched.status != 404:  # 404: someone deleted it
                return existing
        created = {"time": _milliseconds(notification.started_at or notification.accepted_at), **annotation}
        if self._settings.dashboard:
            created["dashboardUID"] = self._settings.dashboard
        body = (await self._api.request("POST", f"{self._base}/annotations", json=created)).data
        if not isinstance(body, dict) or "id" not in body:
            raise NotDelivered("Grafana created an annotation but returned no ID")
        return str(body["id"])

    async def _find(self, notification: Notification) -> str:
        query = {"tags": f"exec:{notification.subject}", "type": "annotation", "limit": "10"}
        found = (await self._api.request("GET", f"{self._base}/annotations", params=query)).data
        if not isinstance(found, list):  # unknown: a second annotation would be worse
            raise NotDelivered("expected a list of annotations from Grafana")
        if found and not (isinstance(found[0], dict) and "id" in found[0]):
            raise NotDelivered("expected annotations with an ID from Grafana")
        return str(found[0]["id"]) if found else ""

    def _tags(self, notification: Notification) -> list[str]:
        about = (f"exec:{notification.subject}", notification.service, notification.environment, notification.outcome)
        return [tag for tag in dict.fromkeys((*self._settings.tags, *about)) if tag]

    def _text_of(self, notification: Notification) -> str:
        default = (
            f"<b>{escape(one_line(notification.title, 300))}</b><br>{escape(one_line(notification.happened, 1000))}"
        )
        return self._text.of(notification, default)


def _milliseconds(when: datetime) -> int:
    return int(when.timestamp() * 1000)

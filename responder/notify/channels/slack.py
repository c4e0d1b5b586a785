"""Slack: one message for each execution, updated in place; its thread has what needs attention."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from pydantic import Field, HttpUrl, SecretStr, model_validator

from foundation.models import StrictModel
from foundation.secrets import SecretFile
from responder.config.text import one_line
from responder.notify.channel import ChannelSettings, NotDelivered
from responder.notify.http import Api
from responder.notify.notification import Notification
from responder.notify.templates import TemplateText, Text
from responder.rollback.stages import STAGES, Stage
from responder.transport.http_client import Answer

_SECTION_LIMIT = 2900  # characters of a section; Slack allows 3000
_ICONS = {"done": ":white_check_mark:", "running": ":hourglass_flowing_sand:", "failed": ":x:"}
_COLORS = {"succeeded": "#2eb67d", "mitigated": "#2eb67d", "stuck": "#e01e5a", "failed": "#e01e5a", "alert": "#e01e5a"}


class SlackTemplates(StrictModel):
    """Custom texts."""

    text: TemplateText | None = Field(default=None, description="The text, in Slack's mrkdwn; buttons stay")


class SlackSettings(ChannelSettings):
    """Slack messages.

    A bot token updates one message in place; an incoming webhook sends a message for each notification.
    """

    default_stages: ClassVar[tuple[Stage, ...]] = tuple(s for s in STAGES if s != "denied")

    token: SecretStr | None = Field(default=None, description="Bot token with scope chat:write, such as ${SLACK_TOKEN}")
    token_file: SecretFile | None = Field(default=None, description="File that holds the token")
    channel: str = Field(default="", description="Channel ID, such as C0123456789; only with a token")
    webhook_url: SecretStr | None = Field(default=None, description="URL of an incoming webhook, instead of a token")
    webhook_url_file: SecretFile | None = Field(default=None, description="File that holds the URL of the webhook")
    mention: str = Field(
        default="",
        pattern=r"^(<(!subteam\^|@)[A-Z0-9]+>|)$",
        description="User or group to mention if a human must act, such as <@U…>",
    )
    show_links: bool = Field(default=True, description="Show buttons to approve and stop")
    api_url: HttpUrl = Field(default=HttpUrl("https://slack.com/api"), description="API URL, for GovSlack or a proxy")
    templates: SlackTemplates = SlackTemplates()

    @model_validator(mode="after")
    def _token_or_webhook(self) -> SlackSettings:
        by_token = self.token is not None or self.token_file is not None
        by_url = self.webhook_url is not None or self.webhook_url_file is not None
        if by_token == by_url:
            raise ValueError("needs either token (or token_file) and channel, or webhook_url (or webhook_url_file)")
        if by_token != bool(self.channel):
            raise ValueError("channel is missing" if by_token else "channel is only for a token: a webhook has its own")
        if by_token:
            self._credential = self.read_secret("token")
        else:
            self._credential = self.read_secret("webhook_url")
            if not self._credential.startswith(("https://", "http://")):
                raise ValueError("webhook_url is not a URL")
        return self

    @property
    def selected_stages(self) -> tuple[Stage, ...]:
        stages = super().selected_stages
        return stages if self.channel else tuple(stage for stage in stages if stage != "progress")

    @property
    def includes_links(self) -> bool:
        return self.show_links

    def open(self) -> Slack:
        return Slack(self)


def escape(text: str) -> str:
    """Escapes &, < and >, so that a label cannot mention people or add links."""
    clean = "".join(c if c.isprintable() or c == "\n" else " " for c in text)
    return clean.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


class _ApiError(NotDelivered):
    def __init__(self, method: str, error: str) -> None:
        super().__init__(f"Slack rejected {method}: {one_line(error, 100)}")
        self.error = error


class Slack:
    """Reference: `{"ts": …, "channel": …}` of the message, as chat.update needs them."""

    def __init__(self, settings: SlackSettings) -> None:
        self._settings = settings
        headers = {"Authorization": f"Bearer {settings.credential}"} if settings.channel else {}
        self._api = Api(settings.timeout, headers)
        self._text = Text(settings.templates.text, escape)

    async def close(self) -> None:
        await self._api.close()

    async def check_access(self) -> None:
        if not self._settings.channel:
            await self._api.connect(self._settings.credential)
            return
        scopes = (await self._request("auth.test", {})).headers.get("X-OAuth-Scopes", "")
        if scopes and "chat:write" not in [scope.strip() for scope in scopes.split(",")]:
            raise NotDelivered(f"the token lacks the scope chat:write; it has {scopes}")

    async def deliver(self, notification: Notification, reference: str, *, retry: bool) -> str:
        message = self._message(notification)
        if not self._settings.channel:
            await self._api.request("POST", self._settings.credential, ignore_body=True, json=message)
            return reference
        known = json.loads(reference) if reference else {}
        if not known or not await self._updated({"ts": known["ts"], "channel": known["channel"], **message}):
            posted = await self._call("chat.postMessage", {"channel": self._settings.channel, **message})
            where = {key: posted.get(key) for key in ("ts", "channel")}
            if not all(isinstance(value, str) for value in where.values()):
                raise NotDelivered("Slack posted a message but returned no ts and channel")
            return json.dumps({**where, "posted": notification.occasion})
        # Slack sends no notification for an edited message: post urgent stages and the end in the thread once.
        if (notification.urgent or notification.over) and known.get("posted") != notification.occasion:
            thread = {"thread_ts": known["ts"], "reply_broadcast": True, "channel": known["channel"]}
            await self._call("chat.postMessage", {**thread, **self._plain(self._headline(notification))})
        return json.dumps({**known, "posted": notification.occasion})

    async def _updated(self, message: dict[str, Any]) -> bool:
        """False if someone has deleted the message."""
        try:
            await self._call("chat.update", message)
        except _ApiError as e:
            if e.error not in ("message_not_found", "channel_not_found"):
                raise
            return False
        return True

    async def _call(self, method: str, body: dict[str, Any]) -> dict[str, Any]:
        data: dict[str, Any] = (await self._request(method, body)).data
        return data

    async def _request(self, method: str, body: dict[str, Any]) -> Answer:
        url = f"{str(self._settings.api_url).rstrip('/')}/{method}"
        answer = await self._api.request("POST", url, json=body)
        data = answer.json_object
        if data.get("ok") is not True:  # Slack answers 200 to every well-formed request
            raise _ApiError(method, str(data.get("error", "no JSON")))
        return answer

    def _plain(self, text: str) -> dict[str, Any]:
        return {"text": text, "parse": "none", "link_names": False, "unfurl_links": False, "unfurl_media": False}

    def _headline(self, notification: Notification) -> str:
        mention = f"{self._settings.mention} " if notification.urgent and self._settings.mention else ""
        return (
            f"{mention}*{escape(one_line(notification.title, 300))}*\n{escape(one_line(notification.happened, 1000))}"
        )

    def _message(self, notification: Notification) -> dict[str, Any]:
        blocks: list[dict[str, Any]] = [_section(self._body(notification))]
        if steps := [_step(step.title, step.state, step.note) for step in notification.steps]:
            blocks.append(_section(_cut(steps)))
        if notification.remains:
            blocks.append(_section(_cut([f":arrow_right: {escape(remaining)}" for remaining in notification.remains])))
        if notification.notes:
            blocks.append(_section(_cut([f":warning: {escape(note)}" for note in notification.notes])))
        if buttons := _buttons(notification):
            blocks.append({"type": "actions", "elements": buttons})
        blocks.append({"type": "context", "elements": [_mrkdwn(_facts(notification))]})
        attachment = {
            "color": _COLORS.get(notification.stage, "#ecb22e" if not notification.over else "#9e9ea6"),
            "blocks": blocks,
        }
        return {**self._plain(escape(one_line(notification.title, 300))), "attachments": [attachment]}

    def _body(self, notification: Notification) -> str:
        alerts = sorted(
            {f"{alert.name}: {alert.summary}" if alert.summary else alert.name for alert in notification.alerts}
        )
        parts = [self._headline(notification), *(f"• {escape(one_line(alert, 200))}" for alert in alerts[:5])]
        return self._text.of(notification, "\n".join(parts))[:_SECTION_LIMIT]  # the mention comes first


def _cut(lines: list[str]) -> str:
    """The lines as one text, cut to the last ones that fit into a section."""
    text = "\n".join(lines)
    while len(text) > _SECTION_LIMIT and len(lines) > 1:
        lines = lines[1:]
        text = "…\n" + "\n".join(lines)
    return text[:_SECTION_LIMIT]


def _mrkdwn(text: str) -> dict[str, Any]:
    return {"type": "mrkdwn", "text": text, "verbatim": True}  # verbatim: Slack adds no links or mentions


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": _mrkdwn(text)}


def _step(title: str, state: str, note: str) -> str:
    suffix = f": {one_line(note, 200)}" if note else ""
    return f"{_ICONS.get(state, ':white_small_square:')} {escape(one_line(title, 300) + suffix)}"


def _buttons(notification: Notification) -> list[dict[str, Any]]:
    links = (
        ("approve", "Review and approve", notification.approve_url, "primary"),
        ("stop", "Stop", notification.stop_url, "danger"),
    )
    return [
        {"type": "button", "action_id": key, "text": {"type": "plain_text", "text": text}, "url": url, "style": style}
        for key, text, url, style in links
        if url
    ]


def _facts(notification: Notification) -> str:
    facts = [notification.subject, f"policy {notification.policy}"]
    facts += [f"severity {notification.severity}"] if notification.severity else []
    facts += [f"requested by {notification.requested_by}"] if notification.requested_by else []
    facts += [f"approve before {notification.approve_before:%H:%M:%S} UTC"] if notification.approve_before else []
    facts += [notification.command] if notification.command else []
    return escape(one_line(" · ".join(facts), 1500))

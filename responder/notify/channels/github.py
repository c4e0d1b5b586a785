"""GitHub: one issue an execution, with everything that is known of it; closed when the service has recovered."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, PrivateAttr, SecretStr, model_validator

from foundation.secret_files import SecretFile
from responder.config.text import one_line
from responder.notify.channel import ChannelSettings, NotDelivered, secret_of
from responder.notify.http import Answer, Api
from responder.notify.notification import Notification
from responder.notify.templates import TemplateText, Text
from responder.rollback.stages import CALLS, STAGES, Stage

_MOST_BODY = 60_000  # GitHub refuses 65536
_QUIET: tuple[Stage, ...] = ("observed", "refused", "progress")


class GithubTemplates(BaseModel):
    """Texts of your own, in GitHub's Markdown."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: TemplateText | None = Field(default=None, description="Title of the issue")
    body: TemplateText | None = Field(default=None, description="Body of the issue; it is made anew at every stage")


class GithubSettings(ChannelSettings):
    """Issues of one repository, and deployments, where they are wanted."""

    kind: ClassVar[str] = "github"
    usual: ClassVar[tuple[Stage, ...]] = tuple(stage for stage in STAGES if stage not in _QUIET)

    repository: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$", description="As owner/name")]
    token: SecretStr | None = Field(default=None, description="May write issues (and deployments), as ${GITHUB_TOKEN}")
    token_file: SecretFile | None = Field(default=None, description="File that holds the token")
    api_url: HttpUrl = Field(
        default=HttpUrl("https://api.github.com"), description="For GitHub Enterprise: https://HOST/api/v3"
    )
    labels: tuple[str, ...] = Field(default=("rollback",), description="Put on each issue")
    republish_labels: tuple[str, ...] = Field(
        default=("republish",), min_length=1, description="Put on it where an app has to be published anew; stays open"
    )
    deployments: bool = Field(
        default=False, description="Also a deployment of the version that is gone back to, with its status"
    )
    deployment_ref: str = Field(
        default="{version}", pattern=r"\{version\}", description="Tag of a version, as v{version}"
    )
    templates: GithubTemplates = GithubTemplates()
    _secret: str = PrivateAttr(default="")

    @model_validator(mode="after")
    def _read(self) -> GithubSettings:
        self._secret = secret_of(self.token, self.token_file, "token")
        return self

    @property
    def secrets(self) -> tuple[str, ...]:
        return (self._secret,)

    @property
    def secret(self) -> str:
        return self._secret

    def open(self) -> Github:
        return Github(self)


def escape(text: str) -> str:
    """Markdown without its meaning: no markup, no link, nobody mentioned and no issue referred to."""
    clean = "".join(c if c.isprintable() else " " for c in text)
    clean = re.sub(r"([\\`*_{}\[\]()<>|~!+=&$^-])", r"\\\1", clean)
    clean = re.sub(r"^(\s*\d+)\.", r"\1\\.", clean)
    # A backslash does not stop these: an invisible space does.
    return re.sub(r"([@#]|GH\\-|://|www\.)", "\\1\u200b", clean, flags=re.IGNORECASE)


class Github:
    """Reference: `{"issue": …, "deployment": …}`; deployment 0 where GitHub does not know the version."""

    def __init__(self, settings: GithubSettings) -> None:
        self._settings = settings
        self._repository = f"{str(settings.api_url).rstrip('/')}/repos/{settings.repository}"
        headers = {
            "Authorization": f"Bearer {settings.secret}",
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": "2022-11-28",
        }
        self._api = Api(settings.timeout, headers)
        self._title = Text(settings.templates.title, one_line)
        self._body = Text(settings.templates.body, escape)

    async def close(self) -> None:
        await self._api.close()

    async def check_access(self) -> None:
        body = (await self._ask("GET", "")).body
        repository = body if isinstance(body, dict) else {}
        name = self._settings.repository
        if repository.get("archived") is True:
            raise NotDelivered(f"{name} is archived: no issue can be opened there")
        if repository.get("has_issues") is False:
            raise NotDelivered(f"{name} has no issues: switch them on in its settings")
        await self._ask("GET", "/issues", params={"per_page": "1", "state": "all"})
        rights = repository.get("permissions")
        if self._settings.deployments and isinstance(rights, dict) and not rights.get("push", True):
            raise NotDelivered(f"the token may not write to {name}, which a deployment needs")

    async def deliver(self, notification: Notification, reference: str, *, again: bool) -> str:
        known = json.loads(reference) if reference else {}
        try:
            await self._issue(notification, known, again)
            if (
                self._settings.deployments
                and notification.to_version
                and notification.stage not in ("observed", "refused")
            ):
                await self._deployment(notification, known)
        except NotDelivered as e:
            raise NotDelivered(str(e), reference=json.dumps(known), retry_after=e.retry_after) from None
        return json.dumps(known)

    async def _ask(self, method: str, path: str, *, fine: tuple[int, ...] = (), **how: Any) -> Answer:
        return await self._api.ask(method, self._repository + path, fine=fine, **how)

    async def _issue(self, notification: Notification, known: dict[str, Any], again: bool) -> None:
        new = "issue" not in known
        if new:
            # Between opening it and keeping its number we may have died: it carries a mark by which it is found.
            known["issue"] = await self._find(notification) or await self._open(notification)
        number = known["issue"]
        mark = f"<!-- rollback-responder: {notification.subject}/{notification.occasion} -->"
        if not new and not (again and await self._commented(number, mark)):
            title, happened = one_line(notification.title, 300), one_line(notification.happened, 2000)
            text = f"**{escape(title)}**\n\n{escape(happened)}\n\n{mark}"
            answer = await self._ask("POST", f"/issues/{number}/comments", fine=(404, 410), json={"body": text})
            if answer.status in (404, 410):  # somebody has deleted it
                new, number = True, await self._find(notification) or await self._open(notification)
                known["issue"] = number
        change: dict[str, Any] = {"body": self._written(notification)}
        if notification.stage == "succeeded":
            change |= {"state": "closed", "state_reason": "completed"}
        if notification.stage == "mitigated":  # it stays open: somebody has to publish anew
            labels = {"labels": list(self._settings.republish_labels)}
            await self._ask("POST", f"/issues/{number}/labels", json=labels)
        if not new or "state" in change:
            await self._ask("PATCH", f"/issues/{number}", json=change)

    async def _open(self, notification: Notification) -> int:
        title = self._title.of(notification, notification.topic)
        issue = {
            "title": one_line(title, 250),
            "body": self._written(notification),
            "labels": list(self._settings.labels),
        }
        number = _field((await self._ask("POST", "/issues", json=issue)).body, "number")
        return int(number)

    async def _find(self, notification: Notification) -> int | None:
        query = {"state": "all", "since": f"{notification.accepted_at:%Y-%m-%dT%H:%M:%SZ}", "per_page": "100"}
        for page in range(1, 6):
            found = (await self._ask("GET", "/issues", params={**query, "page": str(page)})).body
            issues = _list(found)
            for issue in issues:
                if _mark(notification) in (issue.get("body") or ""):
                    return int(issue["number"])
            if len(issues) < 100:
                break
        return None

    async def _commented(self, number: int, mark: str) -> bool:
        for page in range(1, 6):
            query = {"per_page": "100", "page": str(page)}
            answer = await self._ask("GET", f"/issues/{number}/comments", params=query, fine=(404, 410))
            comments = _list(answer.body) if answer.status == 200 else []
            if any(mark in (comment.get("body") or "") for comment in comments):
                return True
            if len(comments) < 100:
                break
        return False

    def _written(self, notification: Notification) -> str:
        return f"{self._body.of(notification, _usual_body(notification))[:_MOST_BODY]}\n\n{_mark(notification)}"

    async def _deployment(self, notification: Notification, known: dict[str, Any]) -> None:
        state = _DEPLOYMENT_STATES.get(notification.stage)
        if state is None or known.get("deployment") == 0:
            return
        if "deployment" not in known:
            known["deployment"] = await self._find_deployment(notification) or await self._deploy(notification)
        if known["deployment"] and known.get("status") != notification.occasion:
            status = {
                "state": state,
                "environment": notification.environment,
                "description": one_line(notification.title, 140),
            }
            await self._ask("POST", f"/deployments/{known['deployment']}/statuses", json=status)
            known["status"] = notification.occasion

    async def _deploy(self, notification: Notification) -> int:
        deployment = {
            "ref": self._settings.deployment_ref.replace("{version}", notification.to_version),
            "task": "rollback",
            "environment": notification.environment,
            "description": one_line(notification.topic, 140),
            "auto_merge": False,
            "required_contexts": [],
            "payload": {"execution": notification.subject},
        }
        answer = await self._ask("POST", "/deployments", json=deployment, fine=(404, 409, 422))
        # It knows no such tag: that will not get better, and the issue is what matters.
        return int(_field(answer.body, "id")) if answer.status == 201 else 0

    async def _find_deployment(self, notification: Notification) -> int | None:
        query = {"environment": notification.environment, "task": "rollback", "per_page": "30"}
        found = (await self._ask("GET", "/deployments", params=query)).body
        for deployment in _list(found):
            payload = deployment.get("payload")
            if isinstance(payload, str):
                payload = json.loads(payload) if payload.startswith("{") else {}
            if isinstance(payload, dict) and payload.get("execution") == notification.subject:
                return int(deployment["id"])
        return None


_DEPLOYMENT_STATES: dict[Stage, str] = {
    "accepted": "queued",
    "approval_requested": "pending",
    "approved": "queued",
    "started": "in_progress",
    "reverting": "in_progress",
    "stuck": "error",
    "succeeded": "success",
    "mitigated": "inactive",
    "reverted": "failure",
    "cancelled": "inactive",
    "failed": "failure",
}


def _field(body: Any, name: str) -> Any:
    if not isinstance(body, dict) or name not in body:
        raise NotDelivered(f"GitHub's answer has no {name}")
    return body[name]


def _list(body: Any) -> list[Any]:
    # What cannot be read is no reason to open a second issue.
    if not isinstance(body, list) or not all(isinstance(item, dict) for item in body):
        raise NotDelivered("GitHub's answer is no list")
    return body


def _mark(notification: Notification) -> str:
    return f"<!-- rollback-responder: {notification.subject} -->"


def _usual_body(notification: Notification) -> str:
    def table(head: str, rows: Iterable[tuple[str, ...]]) -> str:
        columns = head.split(" | ")
        lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
        lines += [" | ".join(escape(one_line(cell, 300)) for cell in row) for row in rows]
        return "\n".join(f"| {line} |" for line in lines)

    needed = "\n\n:rotating_light: A human is needed." if notification.stage in CALLS else ""
    facts = [
        ("Service", f"{notification.service} in {notification.environment}"),
        ("Versions", f"{notification.from_version} → {notification.to_version}"),
        ("Why", notification.reason),
        ("Policy", notification.policy),
        ("Severity", notification.severity),
        ("Strategy", notification.strategy),
        ("Requested by", notification.requested_by),
        ("Accepted", f"{notification.accepted_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("Outcome", notification.outcome),
    ]
    parts = [
        f"**{escape(one_line(notification.title, 300))}**\n\n{escape(one_line(notification.happened, 2000))}{needed}"
    ]
    parts.append(table("What | Is", [fact for fact in facts if fact[1]]))
    if notification.remains:
        parts.append(
            "### What remains\n\n"
            + "\n".join(f"- [ ] {escape(one_line(remaining, 500))}" for remaining in notification.remains)
        )
    if notification.steps:
        steps = [(str(n), str(s.state), s.title, s.note) for n, s in enumerate(notification.steps, 1)]
        parts.append("### Plan\n\n" + table("Step | State | What | Note", steps))
    parts += [f"> {escape(one_line(note, 500))}" for note in notification.notes]
    if notification.alerts:
        alerts = [
            (
                alert.name,
                f"{alert.starts_at:%H:%M:%S} UTC",
                alert.summary,
                ", ".join(f"{k}={v}" for k, v in sorted(alert.labels.items())),
            )
            for alert in notification.alerts
        ]
        parts.append("### Alerts\n\n" + table("Alert | Since | Summary | Labels", alerts))
    if notification.guard_results:
        rows = [(result.guard, result.result, result.reason) for result in notification.guard_results]
        parts.append("### What the guards said\n\n" + table("Guard | Verdict | Reason", rows))
    if notification.evidence:
        parts.append(
            "### Evidence\n\n" + "\n".join(f"- {escape(one_line(location, 500))}" for location in notification.evidence)
        )
    lines = [f"- {line.at:%H:%M:%S} UTC {escape(one_line(line.text, 500))}" for line in notification.timeline]
    parts.append("### What happened\n\n" + "\n".join(lines))
    parts.append(f"`{notification.command}`" if notification.command and "`" not in notification.command else "")
    return "\n\n".join(part for part in parts if part)

"""GitHub: one issue for each execution, closed when the service has recovered."""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar

from pydantic import Field, HttpUrl, SecretStr, model_validator

from foundation.models import StrictModel
from foundation.secrets import SecretFile
from responder.config.text import one_line
from responder.notify.channel import ChannelSettings, NotDelivered
from responder.notify.channels.github_text import escape, issue_body
from responder.notify.http import Api
from responder.notify.notification import Notification
from responder.notify.templates import TemplateText, Text
from responder.rollback.stages import STAGES, Stage
from responder.transport.http_client import Answer

_BODY_LIMIT = 60_000  # characters; GitHub allows 65536
_QUIET: tuple[Stage, ...] = ("observed", "denied", "progress")


class GithubTemplates(StrictModel):
    """Custom texts, in GitHub's Markdown."""

    title: TemplateText | None = Field(default=None, description="Title of the issue")
    body: TemplateText | None = Field(default=None, description="Body of the issue, updated at every stage")


class GithubSettings(ChannelSettings):
    """GitHub issues, and optionally deployments."""

    default_stages: ClassVar[tuple[Stage, ...]] = tuple(stage for stage in STAGES if stage not in _QUIET)

    repository: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+$", description="Repository: owner/name")
    ]
    token: SecretStr | None = Field(
        default=None, description="Token with write access to issues, such as ${GITHUB_TOKEN}"
    )
    token_file: SecretFile | None = Field(default=None, description="File that holds the token")
    api_url: HttpUrl = Field(
        default=HttpUrl("https://api.github.com"),
        description="URL of the API; for GitHub Enterprise https://HOST/api/v3",
    )
    labels: tuple[str, ...] = Field(default=("rollback",), description="Labels of each issue")
    republish_labels: tuple[str, ...] = Field(
        default=("republish",),
        min_length=1,
        description="Labels added if an app must be published again",
    )
    deployments: bool = Field(default=False, description="Create a deployment of the restored version")
    deployment_ref: str = Field(
        default="{version}", pattern=r"\{version\}", description="Git ref of a version, such as v{version}"
    )
    templates: GithubTemplates = GithubTemplates()

    @model_validator(mode="after")
    def _read(self) -> GithubSettings:
        self._credential = self.read_secret("token")
        return self

    def open(self) -> Github:
        return Github(self)


class Github:
    """Reference: `{"issue": …, "deployment": …}`; deployment 0 if GitHub does not know the ref of the version."""

    def __init__(self, settings: GithubSettings) -> None:
        self._settings = settings
        self._repository = f"{str(settings.api_url).rstrip('/')}/repos/{settings.repository}"
        headers = {
            "Authorization": f"Bearer {settings.credential}",
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": "2022-11-28",
        }
        self._api = Api(settings.timeout, headers)
        self._title = Text(settings.templates.title, one_line)
        self._body = Text(settings.templates.body, escape)

    async def close(self) -> None:
        await self._api.close()

    async def check_access(self) -> None:
        body = (await self._request("GET", "")).data
        repository = body if isinstance(body, dict) else {}
        name = self._settings.repository
        if repository.get("archived") is True:
            raise NotDelivered(f"repository {name} is archived: unarchive it or configure another one")
        if repository.get("has_issues") is False:
            raise NotDelivered(f"repository {name} has issues disabled: enable them in its settings")
        await self._request("GET", "/issues", params={"per_page": "1", "state": "all"})
        permissions = repository.get("permissions")
        if self._settings.deployments and isinstance(permissions, dict) and not permissions.get("push", True):
            raise NotDelivered(f"the token lacks write access to {name}, which deployments need")

    async def deliver(self, notification: Notification, reference: str, *, retry: bool) -> str:
        known = json.loads(reference) if reference else {}
        try:
            await self._issue(notification, known, retry)
            if (
                self._settings.deployments
                and notification.to_version
                and notification.stage not in ("observed", "denied")
            ):
                await self._deployment(notification, known)
        except NotDelivered as e:
            raise NotDelivered(str(e), reference=json.dumps(known), retry_after=e.retry_after) from None
        return json.dumps(known)

    async def _request(self, method: str, path: str, *, accepted: tuple[int, ...] = (), **options: Any) -> Answer:
        return await self._api.request(method, self._repository + path, accepted=accepted, **options)

    async def _issue(self, notification: Notification, known: dict[str, Any], retry: bool) -> None:
        new = "issue" not in known
        if new:
            # A crash may have lost the number of an issue that exists: its hidden mark finds it.
            known["issue"] = await self._find(notification) or await self._open(notification)
        number = known["issue"]
        mark = f"<!-- rollback-responder: {notification.subject}/{notification.occasion} -->"
        if not new and not (retry and await self._commented(number, mark)):
            title, happened = one_line(notification.title, 300), one_line(notification.happened, 2000)
            text = f"**{escape(title)}**\n\n{escape(happened)}\n\n{mark}"
            response = await self._request(
                "POST", f"/issues/{number}/comments", accepted=(404, 410), json={"body": text}
            )
            if response.status in (404, 410):  # someone deleted the issue
                new, number = True, await self._find(notification) or await self._open(notification)
                known["issue"] = number
        change: dict[str, Any] = {"body": self._issue_body(notification)}
        if notification.stage == "succeeded":
            change |= {"state": "closed", "state_reason": "completed"}
        if notification.stage == "mitigated":  # the issue stays open: someone must publish the app again
            labels = {"labels": list(self._settings.republish_labels)}
            await self._request("POST", f"/issues/{number}/labels", json=labels)
        if not new or "state" in change:
            await self._request("PATCH", f"/issues/{number}", json=change)

    async def _open(self, notification: Notification) -> int:
        title = self._title.of(notification, notification.topic)
        issue = {
            "title": one_line(title, 250),
            "body": self._issue_body(notification),
            "labels": list(self._settings.labels),
        }
        number = _field((await self._request("POST", "/issues", json=issue)).data, "number")
        return int(number)

    async def _find(self, notification: Notification) -> int | None:
        query = {"state": "all", "since": f"{notification.accepted_at:%Y-%m-%dT%H:%M:%SZ}", "per_page": "100"}
        for page in range(1, 6):
            found = (await self._request("GET", "/issues", params={**query, "page": str(page)})).data
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
            response = await self._request("GET", f"/issues/{number}/comments", params=query, accepted=(404, 410))
            comments = _list(response.data) if response.status == 200 else []
            if any(mark in (comment.get("body") or "") for comment in comments):
                return True
            if len(comments) < 100:
                break
        return False

    def _issue_body(self, notification: Notification) -> str:
        return f"{self._body.of(notification, issue_body(notification))[:_BODY_LIMIT]}\n\n{_mark(notification)}"

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
            await self._request("POST", f"/deployments/{known['deployment']}/statuses", json=status)
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
        response = await self._request("POST", "/deployments", json=deployment, accepted=(404, 409, 422))
        # GitHub does not know the ref: a retry does not help, and the issue matters more.
        return int(_field(response.data, "id")) if response.status == 201 else 0

    async def _find_deployment(self, notification: Notification) -> int | None:
        query = {"environment": notification.environment, "task": "rollback", "per_page": "30"}
        found = (await self._request("GET", "/deployments", params=query)).data
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
        raise NotDelivered(f"expected the field {name} in the response of GitHub")
    return body[name]


def _list(body: Any) -> list[Any]:
    # Unknown: a second issue would be worse.
    if not isinstance(body, list) or not all(isinstance(item, dict) for item in body):
        raise NotDelivered("expected a list of objects from GitHub")
    return body


def _mark(notification: Notification) -> str:
    return f"<!-- rollback-responder: {notification.subject} -->"

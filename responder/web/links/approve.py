"""`/approve/{id}`: the page behind an approval link.

It only shows the plan, because chat clients open links by themselves. A button approves.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from html import escape

from aiohttp import web

from responder.assets import RUNBOOK_URL
from responder.backends.alertmanager.alerts import Alert
from responder.errors import Conflict, ResponderError
from responder.journal import Database, executions
from responder.rollback.events import Accepted
from responder.rollback.execution import Execution
from responder.web.executions import Executions
from responder.web.http.bodies import form_of
from responder.web.http.routes import Handlers, Route, get, post
from responder.web.links.signing import Links
from responder.web.pages.documents import documents
from responder.web.pages.page import page

_ALTHOUGH_RESOLVED = (
    '<label><input type="checkbox" name="although_resolved" value="yes" required> '
    "Approve although the trouble is no longer visible</label>"
)

_ALERTS = 20


def _alerts(accepted: Accepted) -> str:
    """The first alerts, each with a link to its runbook: that of the rule, otherwise that of the shipped alert."""
    lines = {
        alert.name: f"{escape(alert.name)}{_runbook(alert)} {escape(alert.annotations.get('summary', ''))}"
        for alert in accepted.alerts
    }
    return f"<dt>Alerts</dt>{''.join(f'<dd>{line}</dd>' for line in [*lines.values()][:_ALERTS])}" if lines else ""


def _runbook(alert: Alert) -> str:
    own = alert.annotations.get("runbook_url", "")
    if re.match("https?://", own) and not own.startswith(RUNBOOK_URL):
        return f' (<a href="{escape(own)}" rel="noreferrer">runbook</a>)'
    path = f"runbooks/{alert.name}"
    return f' (<a href="../{escape(path)}">runbook</a>)' if path in documents() else ""


class ApprovalPage(Handlers):
    """`GET /approve/{id}` shows the plan, `POST` approves it."""

    def __init__(self, journal: Database, executions: Executions, links: Callable[[], Links]) -> None:
        self._journal, self._executions, self._links = journal, executions, links

    def routes(self) -> Iterable[Route]:
        # The signed link is the permission.
        return get("/approve/{id}", None, self.show), post("/approve/{id}", None, self.approve, body="form")

    async def show(self, request: web.Request) -> web.Response:
        try:
            execution = await self._execution(request)
        except ResponderError as e:
            return page("This plan cannot be approved", f"<p>{escape(str(e))}</p>", status=403)
        accepted, plan = execution.accepted, execution.plan
        steps = "".join(f"<li>{escape(str(step))}</li>" for step in (plan.steps if plan else ()))
        known = (*plan.notes, *(f"remains on {mitigation}" for mitigation in plan.mitigations)) if plan else ()
        notes = "".join(f"<li>{escape(note)}</li>" for note in known)
        blocked = await self._executions.blocked_by(execution)
        blocked_row = f"<dt>Blocked by guard {blocked.guard}</dt><dd>{escape(blocked.reason)}</dd>" if blocked else ""
        body = (
            f"<dl><dt>Reason</dt><dd>{escape(accepted.reason)}</dd>{_alerts(accepted)}"
            f"<dt>Approval required</dt><dd>{escape(execution.reason)}</dd>{blocked_row}"
            f"<dt>Versions</dt><dd>{escape(accepted.from_version)} → {escape(accepted.to_version)}</dd>"
            f"<dt>Approve before</dt><dd>{execution.approve_before:%Y-%m-%d %H:%M:%S} UTC</dd></dl>"
            f"<p>Steps:</p><ol>{steps}</ol>"
            f"{f'<p>Before you approve:</p><ul>{notes}</ul>' if notes else ''}"
            '<form method="post"><label>Your name <input name="name" required maxlength="80" autofocus></label>'
            f"{_ALTHOUGH_RESOLVED if blocked and blocked.resolved else ''}"
            "<button>Approve this rollback</button></form>"
        )
        return page(f"Roll back {accepted.service} in {accepted.environment}?", body)

    async def approve(self, request: web.Request) -> web.Response:
        try:
            execution = await self._execution(request)
            form = await form_of(request)
            name = str(form.get("name", "")).strip()[:80]
            if not name:
                raise Conflict("enter your name, for the record")
            by, although_resolved = f"{name} (by link)", form.get("although_resolved") == "yes"
            plan_hash = request.query["plan"]
            await self._executions.approve_plan(execution.id, plan_hash, by, although_resolved=although_resolved)
        except ResponderError as e:
            return page("This plan cannot be approved", f"<p>{escape(str(e))}</p>", status=409)
        return page(
            "Approved",
            f"<p>Rollback {escape(execution.id)} continues. The journal records that {escape(name)} approved it.</p>",
        )

    async def _execution(self, request: web.Request) -> Execution:
        execution_id, query = request.match_info["id"], request.query
        plan = query.get("plan", "")
        if not self._links().allows(execution_id, plan, query.get("signature", "")):
            raise Conflict("this link is not valid or has expired")
        execution = await self._journal.read(executions.load, execution_id)
        if execution.state != "awaiting_approval" or execution.plan is None or execution.plan.hash != plan:
            raise Conflict(f"rollback {execution_id} is {execution.state}: this plan no longer awaits approval")
        return execution

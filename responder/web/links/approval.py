"""Approving by a link: signed for one plan of one rollback, and for as long as that plan waits.

The link is the permission: whoever has it may approve this one plan and nothing else. It opens a page that only shows
the plan, because chat clients open links by themselves; a button there approves. The key comes from the tokens of those
who may approve, so that every replica makes and reads the same links, and a changed token ends those that were made.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from html import escape
from urllib.parse import quote, urlencode

from aiohttp import web

from responder.errors import Conflict, ResponderError
from responder.journal import Database, executions
from responder.rollback.execution import Execution
from responder.web.access.settings import Scope, Web
from responder.web.api import Api
from responder.web.http.bodies import form_of
from responder.web.http.routes import Handlers, Route, get, post

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with no-referrer, browsers send the form with `Origin: null`
}
_ALTHOUGH_RESOLVED = (
    '<label><input type="checkbox" name="although_resolved" value="yes" required> '
    "Approve although the trouble is no longer visible</label>"
)
_STOP_WITHIN = timedelta(days=1)
_HEAD = '<meta charset=utf-8><meta name=viewport content="width=device-width,initial-scale=1">'  # for phones
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:2rem auto;padding:0 1rem;overflow-wrap:anywhere}"
    "dt{color:#666}dd{margin:0 0 .5rem}label{display:block;margin:.75rem 0}input,button{font:inherit;padding:.5rem}"
    "input:not([type=checkbox]){display:block;box-sizing:border-box;width:100%}button{padding:.5rem 1rem}"
)


class Links:
    """Makes and reads links; none can be made where nobody has a token that may approve."""

    def __init__(self, settings: Web) -> None:
        self._key = _key(settings, "approve", "approval link")
        self._stop_key = _key(settings, "operate", "stop link")
        self._base = settings.url

    def link(self, execution: Execution) -> str | None:
        """For a plan that waits; None where there is nothing to approve, or no link may stand for a name."""
        plan = execution.plan
        if self._key is None or execution.state != "awaiting_approval" or not plan or plan.irreversible:
            return None
        query = {"plan": plan.hash, "signature": _sign(self._key, execution.id, plan.hash)}
        return f"{self._base}/approve/{quote(execution.id)}?{urlencode(query)}"

    def stop_link(self, execution: Execution) -> str | None:
        """For a rollback that can still be stopped, for a day; None where nobody has a token that may stop it."""
        if self._stop_key is None or execution.state not in ("accepted", "awaiting_approval", "running"):
            return None
        ends = str(int((execution.accepted.at + _STOP_WITHIN).timestamp()))
        query = {"until": ends, "signature": _sign(self._stop_key, execution.id, ends)}
        return f"{self._base}/stop/{quote(execution.id)}?{urlencode(query)}"

    def both(self, execution: Execution) -> tuple[str, str]:
        """The links that approve and stop it, for a message; empty where there is none."""
        return self.link(execution) or "", self.stop_link(execution) or ""

    def allows(self, execution_id: str, plan: str, signature: str) -> bool:
        return _signed(self._key, signature, execution_id, plan)

    def allows_stop(self, execution_id: str, until: str, signature: str, now: datetime) -> bool:
        return _signed(self._stop_key, signature, execution_id, until) and now.timestamp() < int(until)


def _key(settings: Web, scope: Scope, purpose: str) -> bytes | None:
    # Who knows a secret of the key can sign for every service: a token with limits must not be in it.
    secrets = sorted(token.secret for token in settings.tokens if scope in token.scopes and not token.limited)
    return hashlib.sha256("\0".join([purpose, *secrets]).encode()).digest() if secrets else None


def _sign(key: bytes, *parts: str) -> str:
    return hmac.new(key, "\0".join(parts).encode(errors="surrogateescape"), hashlib.sha256).hexdigest()


def _signed(key: bytes | None, signature: str, *parts: str) -> bool:
    if key is None:
        return False
    return hmac.compare_digest(_sign(key, *parts).encode(), signature.encode(errors="surrogateescape"))


class ApprovalPage(Handlers):
    """`GET /approve/{id}` shows the plan, `POST` approves it."""

    def __init__(self, journal: Database, api: Api, links: Callable[[], Links]) -> None:
        self._journal, self._api, self._links = journal, api, links

    def routes(self) -> Iterable[Route]:
        """As Page.places."""
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
        held = await self._api.held_by(execution)
        holds = f"<dt>Blocked by the guard {held.guard}</dt><dd>{escape(held.reason)}</dd>" if held else ""
        body = (
            f"<dl><dt>Reason</dt><dd>{escape(accepted.reason)}</dd>"
            f"<dt>Approval required</dt><dd>{escape(execution.reason)}</dd>{holds}"
            f"<dt>Versions</dt><dd>{escape(accepted.from_version)} → {escape(accepted.to_version)}</dd>"
            f"<dt>Approve before</dt><dd>{execution.approve_before:%Y-%m-%d %H:%M:%S} UTC</dd></dl>"
            f"<p>Steps:</p><ol>{steps}</ol>"
            f"{f'<p>Before you approve:</p><ul>{notes}</ul>' if notes else ''}"
            '<form method="post"><label>Your name <input name="name" required maxlength="80" autofocus></label>'
            f"{_ALTHOUGH_RESOLVED if held and held.resolved else ''}"
            "<button>Approve this rollback</button></form>"
        )
        return page(f"Roll back {accepted.service} in {accepted.environment}?", body)

    async def approve(self, request: web.Request) -> web.Response:
        try:
            execution = await self._execution(request)
            form = await form_of(request)
            name = str(form.get("name", "")).strip()[:80]
            if not name:
                raise Conflict("a name is needed, for the record")
            by, although_resolved = f"{name} (by link)", form.get("although_resolved") == "yes"
            plan_hash = request.query["plan"]
            await self._api.approve_plan(execution.id, plan_hash, by, although_resolved=although_resolved)
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
            raise Conflict(f"rollback {execution_id} is {execution.state}: this plan no longer waits for approval")
        return execution


def page(title: str, body: str, status: int = 200) -> web.Response:
    text = f"<!doctype html>{_HEAD}<title>{escape(title)}</title><style>{_STYLE}</style>"
    return web.Response(
        text=f"{text}<h1>{escape(title)}</h1>{body}", content_type="text/html", status=status, headers=_HEADERS
    )
